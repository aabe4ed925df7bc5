//! Writing jobs, alone and in groups.

use rusqlite::{Connection, OptionalExtension, named_params};

use crate::clock::Timestamp;
use crate::id::JobGroupId;
use crate::jobs::{JobHint, NewJob, NewJobGroup};

use super::PRIORITY_STEP_MS;

/// Writes a job; `false` if a live one has its unique key.
pub(super) fn insert(db: &Connection, job: &NewJob, now: Timestamp) -> rusqlite::Result<bool> {
    let on_dead = job.on_dead.as_ref().map(|follow_up| serde_json::json!(follow_up).to_string());
    // Index jobs_unique_live.
    let rows = db
        .prepare_cached(
            "INSERT INTO jobs (id, queue, kind, payload, state, priority, rank_ms, run_at_ms, due, max_attempts,
                unique_key, owner_id, video_id, on_dead, group_id, created_at_ms, updated_at_ms)
             VALUES (:id, :queue, :kind, :payload, 'queued', :priority, :rank, :run_at, :due, :max_attempts,
                :unique_key, :owner, :video, :on_dead, :group, :now, :now)
             ON CONFLICT (unique_key) WHERE unique_key IS NOT NULL AND state IN ('queued', 'leased') DO NOTHING",
        )?
        .execute(named_params! {
            ":id": job.id,
            ":queue": job.queue.as_str(),
            ":kind": job.kind,
            ":payload": job.payload.to_string(),
            ":priority": job.priority,
            ":rank": job.run_at.as_millis() - i64::from(job.priority) * PRIORITY_STEP_MS,
            ":run_at": job.run_at,
            ":due": job.run_at <= now,
            ":max_attempts": job.max_attempts,
            ":unique_key": job.unique_key,
            ":owner": job.owner,
            ":video": job.video,
            ":on_dead": on_dead,
            ":group": job.group,
            ":now": job.now,
        })?;
    Ok(rows == 1)
}

/// Writes the jobs a command causes and their groups; returns the hints of those that were written.
pub(crate) fn insert_all(
    db: &Connection,
    jobs: Vec<NewJob>,
    groups: &[NewJobGroup],
    now: Timestamp,
) -> rusqlite::Result<Vec<JobHint>> {
    for group in groups {
        insert_group(db, group, now)?;
    }
    let mut hints = Vec::with_capacity(jobs.len());
    for job in &jobs {
        if insert(db, job, now)? {
            hints.push(job.hint());
            if let Some(group) = job.group {
                join_group(db, group)?;
            }
        }
    }
    for group in groups {
        if let Some(next) = take_finished(db, group.id)?
            && insert(db, &next, now)?
        {
            hints.push(next.hint());
        }
    }
    Ok(hints)
}

fn insert_group(db: &Connection, group: &NewJobGroup, now: Timestamp) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT INTO job_groups (id, remaining, next_job, created_at_ms) VALUES (:id, 0, :next, :now)")?
        .execute(named_params! {":id": group.id, ":next": serde_json::json!(group.next).to_string(), ":now": now})
        .map(|_| ())
}

fn join_group(db: &Connection, group: JobGroupId) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE job_groups SET remaining = remaining + 1 WHERE id = :id")?
        .execute(named_params! {":id": group})
        .map(|_| ())
}

/// Counts one member of the group as ended and returns what follows it if it was the last.
pub(super) fn leave_group(db: &Connection, group: JobGroupId) -> rusqlite::Result<Option<NewJob>> {
    db.prepare_cached("UPDATE job_groups SET remaining = remaining - 1 WHERE id = :id")?
        .execute(named_params! {":id": group})?;
    take_finished(db, group)
}

/// Removes the group if none of it remains.
fn take_finished(db: &Connection, group: JobGroupId) -> rusqlite::Result<Option<NewJob>> {
    let next: Option<String> = db
        .prepare_cached("DELETE FROM job_groups WHERE id = :id AND remaining = 0 RETURNING next_job")?
        .query_row(named_params! {":id": group}, |row| row.get(0))
        .optional()?;
    // One that does not parse cannot be: this file wrote it.
    Ok(next.and_then(|text| serde_json::from_str(&text).ok()))
}
