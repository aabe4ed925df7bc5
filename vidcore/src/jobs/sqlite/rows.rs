//! Reading jobs: rows, one job, lists.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, named_params};

use crate::id::{JobId, UserId};
use crate::jobs::{Death, Job, JobError, JobFilter, JobState, QueueName};
use crate::page::Position;
use crate::store::sqlite::{json, named, refuse};

use super::Result;

pub(super) const COLUMNS: &str =
    "id, queue, kind, payload, state, priority, run_at_ms, attempts, max_attempts, progress,
    last_error, death, owner_id, video_id, cancel_requested, created_at_ms, updated_at_ms, finished_at_ms";

pub(super) fn job_from(row: &Row<'_>) -> rusqlite::Result<Job> {
    Ok(Job {
        id: row.get("id")?,
        queue: QueueName::new(row.get::<_, String>("queue")?),
        kind: row.get("kind")?,
        payload: json(row, "payload")?,
        state: named(row, "state", JobState::parse)?,
        priority: row.get("priority")?,
        run_at: row.get("run_at_ms")?,
        attempts: row.get("attempts")?,
        max_attempts: row.get("max_attempts")?,
        progress: row.get("progress")?,
        last_error: row.get("last_error")?,
        death: row.get::<_, Option<String>>("death")?.as_deref().and_then(Death::parse),
        owner: row.get("owner_id")?,
        video: row.get("video_id")?,
        cancel_requested: row.get("cancel_requested")?,
        created_at: row.get("created_at_ms")?,
        updated_at: row.get("updated_at_ms")?,
        finished_at: row.get("finished_at_ms")?,
    })
}

pub(super) fn find(db: &Connection, id: JobId) -> rusqlite::Result<Option<Job>> {
    db.prepare_cached(&format!("SELECT {COLUMNS} FROM jobs WHERE id = :id"))?
        .query_row(named_params! {":id": id}, job_from)
        .optional()
}

pub(super) fn find_owned(db: &Connection, id: JobId, owner: Option<UserId>) -> Result<Job> {
    find(db, id)?
        .filter(|job| owner.is_none_or(|owner| job.owner == Some(owner)))
        .ok_or_else(|| refuse(JobError::NotFound))
}

pub(super) fn find_live(db: &Connection, unique_key: &str) -> rusqlite::Result<Option<Job>> {
    // Index jobs_unique_live.
    db.prepare_cached(&format!("SELECT {COLUMNS} FROM jobs WHERE unique_key = :key AND state IN ('queued', 'leased')"))?
        .query_row(named_params! {":key": unique_key}, job_from)
        .optional()
}

pub(super) fn list(
    db: &Connection,
    filter: &JobFilter,
    after: Option<Position>,
    limit: u16,
) -> rusqlite::Result<Vec<Job>> {
    // Indexes jobs_video, jobs_owner or jobs_newest, by what the filter names. Dead and leased jobs are few among
    // those that are kept: where nothing else narrows the list, theirs are sorted.
    let jobs = match filter {
        JobFilter { owner: None, video: None, state: Some(JobState::Dead), .. } => "jobs INDEXED BY jobs_dead",
        JobFilter { owner: None, video: None, state: Some(JobState::Leased), .. } => "jobs INDEXED BY jobs_leases",
        _ => "jobs",
    };
    let (mut conditions, mut values) = conditions(filter);
    if let Some(after) = after {
        conditions.push_str(" AND (created_at_ms, id) < (:sort, :after)");
        values.push((":sort", Value::Integer(after.sort)));
        values.push((":after", Value::Blob(after.id.to_vec())));
    }
    values.push((":limit", Value::Integer(limit.into())));
    let sql =
        format!("SELECT {COLUMNS} FROM {jobs} WHERE {conditions} ORDER BY created_at_ms DESC, id DESC LIMIT :limit");
    db.prepare_cached(&sql)?.query_map(bind(&values).as_slice(), job_from)?.collect()
}

/// What the filter names, as a condition and its values. The text is made of fixed parts only; every value
/// is bound.
pub(super) fn conditions(filter: &JobFilter) -> (String, Vec<(&'static str, Value)>) {
    let mut conditions = vec!["1"];
    let mut values: Vec<(&str, Value)> = Vec::new();
    if let Some(queue) = &filter.queue {
        conditions.push("queue = :queue");
        values.push((":queue", Value::Text(queue.as_str().to_owned())));
    }
    if let Some(kind) = &filter.kind {
        conditions.push("kind = :kind");
        values.push((":kind", Value::Text(kind.clone())));
    }
    if let Some(owner) = filter.owner {
        conditions.push("owner_id = :owner");
        values.push((":owner", Value::Blob(owner.as_bytes().to_vec())));
    }
    if let Some(video) = filter.video {
        conditions.push("video_id = :video");
        values.push((":video", Value::Blob(video.as_bytes().to_vec())));
    }
    // Written out, so that the partial indexes of one state can serve.
    conditions.extend(filter.state.map(|state| match state {
        JobState::Queued => "state = 'queued'",
        JobState::Leased => "state = 'leased'",
        JobState::Done => "state = 'done'",
        JobState::Dead => "state = 'dead'",
        JobState::Cancelled => "state = 'cancelled'",
    }));
    (conditions.join(" AND "), values)
}

/// The values as a statement takes them.
pub(super) fn bind<'a>(values: &'a [(&'static str, Value)]) -> Vec<(&'static str, &'a dyn rusqlite::ToSql)> {
    values.iter().map(|(name, value)| (*name, value as &dyn rusqlite::ToSql)).collect()
}
