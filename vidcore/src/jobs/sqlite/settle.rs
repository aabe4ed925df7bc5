//! Ending attempts and jobs, and freeing those whose worker went away.

use rusqlite::{Connection, named_params};

use crate::clock::Timestamp;
use crate::id::{JobGroupId, JobId};
use crate::jobs::{Death, FollowUp, Job, JobState, Swept};
use crate::store::sqlite::Effects;

use super::insert::leave_group;
use super::rows::{COLUMNS, job_from};
use super::{CLOCK_SLACK, PRIORITY_STEP_MS};

/// The most jobs one sweep frees; the next one goes on.
const SWEEP_LIMIT: u16 = 500;

pub(super) fn end_attempt(
    db: &Connection,
    token: i64,
    outcome: &'static str,
    error: Option<&str>,
    now: Timestamp,
) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE job_attempts SET ended_at_ms = :now, outcome = :outcome, error = :error
         WHERE token = :token AND ended_at_ms IS NULL",
    )?
    .execute(named_params! {":token": token, ":outcome": outcome, ":error": error, ":now": now})
    .map(|_| ())
}

/// How a job ends.
pub(super) struct Ending<'a> {
    state: JobState,
    death: Option<Death>,
    error: Option<&'a str>,
}

impl<'a> Ending<'a> {
    pub(super) const DONE: Self = Self { state: JobState::Done, death: None, error: None };
    pub(super) const CANCELLED: Self = Self { state: JobState::Cancelled, death: None, error: None };

    pub(super) fn dead(death: Death, error: &'a str) -> Self {
        Self { state: JobState::Dead, death: Some(death), error: Some(error) }
    }
}

/// Ends a job. One that does not end well passes its follow-up on, and the last of a group what follows
/// the group, so that all of it is in one transaction.
pub(super) fn finish(
    db: &Connection,
    job: &Job,
    ending: &Ending<'_>,
    now: Timestamp,
    effects: &mut Effects,
) -> rusqlite::Result<()> {
    let follow_up = set_ended(db, job.id, ending, now, effects)?;
    // A follow-up that does not parse cannot be: this file wrote it.
    let follow_up = follow_up.and_then(|text| serde_json::from_str::<FollowUp>(&text).ok());
    if let (Some(follow_up), false) = (follow_up, ending.state == JobState::Done) {
        let id = unused_id(db, follow_up.id)?;
        effects.causes.jobs.push(FollowUp { id, ..follow_up }.after(job, now));
    }
    Ok(())
}

/// Ends a job well: nothing about it has to be read for that.
pub(super) fn finish_done(db: &Connection, job: JobId, now: Timestamp, effects: &mut Effects) -> rusqlite::Result<()> {
    set_ended(db, job, &Ending::DONE, now, effects).map(|_| ())
}

/// Moves a live job to its end and out of its group; returns its follow-up as it is stored.
fn set_ended(
    db: &Connection,
    job: JobId,
    ending: &Ending<'_>,
    now: Timestamp,
    effects: &mut Effects,
) -> rusqlite::Result<Option<String>> {
    let (follow_up, group): (Option<String>, Option<JobGroupId>) = db
        .prepare_cached(
            "UPDATE jobs SET state = :state, death = :death, lease_until_ms = NULL, finished_at_ms = :now,
                updated_at_ms = :now, last_error = coalesce(:error, last_error),
                progress = iif(:state = 'done', 1000, progress)
             WHERE id = :id AND state IN ('queued', 'leased') RETURNING on_dead, group_id",
        )?
        .query_row(
            named_params! {
                ":id": job,
                ":state": ending.state.as_str(),
                ":death": ending.death.map(Death::as_str),
                ":error": ending.error,
                ":now": now,
            },
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
    if let Some(group) = group {
        // A job that is replayed after this has left its group for good.
        db.prepare_cached("UPDATE jobs SET group_id = NULL WHERE id = :id")?.execute(named_params! {":id": job})?;
        effects.causes.jobs.extend(leave_group(db, group)?);
    }
    Ok(follow_up)
}

/// The first id, or one near it: a dead job that was replayed and dies again has a second follow-up.
pub(super) fn unused_id(db: &Connection, first: JobId) -> rusqlite::Result<JobId> {
    let mut number = u128::from_be_bytes(*first.as_bytes());
    let mut taken = db.prepare_cached("SELECT EXISTS (SELECT 1 FROM jobs WHERE id = :id)")?;
    loop {
        let id = JobId::from_bytes(number.to_be_bytes());
        if !taken.query_row(named_params! {":id": id}, |row| row.get(0))? {
            return Ok(id);
        }
        number = number.wrapping_add(1);
    }
}

pub(super) fn requeue(
    db: &Connection,
    id: JobId,
    error: Option<&str>,
    run_at: Timestamp,
    now: Timestamp,
) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE jobs SET state = 'queued', due = :run_at <= :now, lease_until_ms = NULL, run_at_ms = :run_at,
            rank_ms = :run_at - priority * :step, last_error = coalesce(:error, last_error), updated_at_ms = :now
         WHERE id = :id AND state = 'leased'",
    )?
    .execute(named_params! {":id": id, ":run_at": run_at, ":step": PRIORITY_STEP_MS, ":error": error, ":now": now})
    .map(|_| ())
}

/// Takes back what the claim counted.
pub(super) fn uncount(db: &Connection, id: JobId) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE jobs SET attempts = attempts - 1 WHERE id = :id")?
        .execute(named_params! {":id": id})
        .map(|_| ())
}

/// Jobs whose lease has run out, with the token that lost it.
pub(super) fn expired(db: &Connection, now: Timestamp) -> rusqlite::Result<Vec<(Job, i64)>> {
    // Index jobs_leases. A lease that ends far in the future was given by a clock that was wrong.
    db.prepare_cached(&format!(
        "SELECT {COLUMNS}, token FROM jobs WHERE state = 'leased' AND (lease_until_ms <= :now OR lease_until_ms > :wrong)
         ORDER BY lease_until_ms LIMIT {SWEEP_LIMIT}"
    ))?
    .query_map(named_params! {":now": now, ":wrong": now.plus(CLOCK_SLACK)}, |row| Ok((job_from(row)?, row.get("token")?)))?
    .collect()
}

pub(super) fn free_expired(db: &Connection, now: Timestamp, effects: &mut Effects) -> rusqlite::Result<Swept> {
    const LOST: &str = "the worker went away without ending the job";
    let mut swept = Swept::default();
    for (job, token) in expired(db, now)? {
        end_attempt(db, token, "lost", Some(LOST), now)?;
        if job.cancel_requested {
            finish(db, &job, &Ending::CANCELLED, now, effects)?;
        } else if job.attempts >= job.max_attempts {
            finish(db, &job, &Ending::dead(Death::Lost, LOST), now, effects)?;
            swept.dead += 1;
        } else {
            requeue(db, job.id, Some(LOST), now, now)?;
            effects.hints.push(job.hint());
            swept.rescued += 1;
        }
    }
    Ok(swept)
}
