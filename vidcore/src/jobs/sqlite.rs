//! SQL of the jobs: claims, settlements and the sweep.
//!
//! Every settlement first proves the lease (`held`), in the same transaction as all it writes.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, named_params};

use crate::clock::Timestamp;
use crate::id::{JobId, UserId, VideoId};
use crate::jobs::{
    AfterFailure, Death, FollowUp, Heartbeat, Job, JobError, JobFilter, JobState, JobStore, Lease, NewJob, QueueName,
    Swept,
};
use crate::page::Position;
use crate::store::sqlite::{Effects, Fail, SqliteStore, json, named, refuse};
use crate::store::{Causes, Fence, Outcome};

/// What a step of priority is worth: a job of one more step goes before those a minute older.
const PRIORITY_STEP_MS: i64 = 60_000;

/// How far the lowest priority, −10, puts a job behind others of its age.
const LOWEST_PRIORITY_MS: i64 = 10 * PRIORITY_STEP_MS;

/// The most jobs one sweep frees; the next one goes on.
const SWEEP_LIMIT: u16 = 500;

const COLUMNS: &str = "id, queue, kind, payload, state, priority, run_at_ms, attempts, max_attempts, progress,
    last_error, death, owner_id, video_id, cancel_requested, created_at_ms, updated_at_ms, finished_at_ms";

type Result<T, E = Fail<JobError>> = std::result::Result<T, E>;

/// Writes a job; `false` if a live one has its unique key.
pub(crate) fn insert(db: &Connection, job: &NewJob) -> rusqlite::Result<bool> {
    let on_dead = job.on_dead.as_ref().map(|follow_up| serde_json::json!(follow_up).to_string());
    // Index jobs_unique_live.
    let rows = db
        .prepare_cached(
            "INSERT INTO jobs (id, queue, kind, payload, state, priority, rank_ms, run_at_ms, max_attempts,
                unique_key, owner_id, video_id, on_dead, created_at_ms, updated_at_ms)
             VALUES (:id, :queue, :kind, :payload, 'queued', :priority, :rank, :run_at, :max_attempts,
                :unique_key, :owner, :video, :on_dead, :now, :now)
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
            ":max_attempts": job.max_attempts,
            ":unique_key": job.unique_key,
            ":owner": job.owner,
            ":video": job.video,
            ":on_dead": on_dead,
            ":now": job.now,
        })?;
    Ok(rows == 1)
}

/// Proves that the fence's attempt holds its job: the one guard of every write on a job's behalf.
pub(crate) fn held(db: &Connection, fence: Fence, now: Timestamp) -> rusqlite::Result<bool> {
    let rows = db
        .prepare_cached(
            "UPDATE jobs SET updated_at_ms = :now
             WHERE id = :job AND state = 'leased' AND token = :token AND lease_until_ms > :now",
        )?
        .execute(named_params! {":job": fence.job, ":token": fence.token, ":now": now})?;
    if rows == 0 {
        metrics::counter!("vid_jobs_fenced_total").increment(1);
        tracing::warn!(job.id = %fence.job, token = fence.token, "fenced: a write of {} came too late", fence.job);
    }
    Ok(rows == 1)
}

/// Cancels what is queued and asks what is leased to stop, for a video's jobs of one queue. Their
/// follow-ups are not written: the caller's own transaction says what becomes of the video. They give
/// their unique keys up, so that a job made later need not wait for one that is still stopping.
pub(crate) fn cancel_of_video(db: &Connection, video: VideoId, queue: &str, now: Timestamp) -> rusqlite::Result<()> {
    // Index jobs_video.
    db.prepare_cached(
        "UPDATE jobs SET state = 'cancelled', finished_at_ms = :now, updated_at_ms = :now
         WHERE video_id = :video AND queue = :queue AND state = 'queued'",
    )?
    .execute(named_params! {":video": video, ":queue": queue, ":now": now})?;
    db.prepare_cached(
        "UPDATE jobs SET cancel_requested = 1, on_dead = NULL, unique_key = NULL
         WHERE video_id = :video AND queue = :queue AND state = 'leased'",
    )?
    .execute(named_params! {":video": video, ":queue": queue})?;
    Ok(())
}

fn demand_held(db: &Connection, fence: Fence, now: Timestamp) -> Result<()> {
    if held(db, fence, now)? { Ok(()) } else { Err(refuse(JobError::LeaseLost { job: fence.job })) }
}

fn job_from(row: &Row<'_>) -> rusqlite::Result<Job> {
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

fn find(db: &Connection, id: JobId) -> rusqlite::Result<Option<Job>> {
    db.prepare_cached(&format!("SELECT {COLUMNS} FROM jobs WHERE id = :id"))?
        .query_row(named_params! {":id": id}, job_from)
        .optional()
}

fn find_owned(db: &Connection, id: JobId, owner: Option<UserId>) -> Result<Job> {
    find(db, id)?
        .filter(|job| owner.is_none_or(|owner| job.owner == Some(owner)))
        .ok_or_else(|| refuse(JobError::NotFound))
}

fn find_live(db: &Connection, unique_key: &str) -> rusqlite::Result<Option<Job>> {
    // Index jobs_unique_live.
    db.prepare_cached(&format!("SELECT {COLUMNS} FROM jobs WHERE unique_key = :key AND state IN ('queued', 'leased')"))?
        .query_row(named_params! {":key": unique_key}, job_from)
        .optional()
}

/// The best due jobs of one queue, as (pk, rank).
fn due(db: &Connection, queue: &QueueName, limit: u16, now: Timestamp) -> rusqlite::Result<Vec<(i64, i64)>> {
    // Index jobs_due: read in rank order; delayed jobs of high priority are stepped over. No due job
    // ranks above the horizon, so those delayed further are not even looked at.
    let horizon = now.as_millis().saturating_add(LOWEST_PRIORITY_MS);
    db.prepare_cached(
        "SELECT pk, rank_ms FROM jobs
         WHERE queue = :queue AND state = 'queued' AND rank_ms <= :horizon AND run_at_ms <= :now
         ORDER BY rank_ms, pk LIMIT :limit",
    )?
    .query_map(named_params! {":queue": queue.as_str(), ":now": now, ":horizon": horizon, ":limit": limit}, |row| {
        Ok((row.get(0)?, row.get(1)?))
    })?
    .collect()
}

fn claim(db: &Connection, pk: i64, worker: &str, now: Timestamp, until: Timestamp) -> rusqlite::Result<Lease> {
    db.prepare_cached("INSERT INTO job_attempts (job_pk, worker, started_at_ms) VALUES (:pk, :worker, :now)")?
        .execute(named_params! {":pk": pk, ":worker": worker, ":now": now})?;
    let token = db.last_insert_rowid();
    db.prepare_cached(&format!(
        "UPDATE jobs SET state = 'leased', token = :token, lease_until_ms = :until, attempts = attempts + 1,
            progress = 0, updated_at_ms = :now
         WHERE pk = :pk AND state = 'queued' RETURNING {COLUMNS}"
    ))?
    .query_row(named_params! {":pk": pk, ":token": token, ":until": until, ":now": now}, |row| {
        Ok(Lease { job: job_from(row)?, token, until })
    })
}

fn end_attempt(
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
struct Ending<'a> {
    state: JobState,
    death: Option<Death>,
    error: Option<&'a str>,
}

impl<'a> Ending<'a> {
    const DONE: Self = Self { state: JobState::Done, death: None, error: None };
    const CANCELLED: Self = Self { state: JobState::Cancelled, death: None, error: None };

    fn dead(death: Death, error: &'a str) -> Self {
        Self { state: JobState::Dead, death: Some(death), error: Some(error) }
    }
}

/// Ends a job. One that does not end well passes its follow-up on, so that both are in one transaction.
fn finish(
    db: &Connection,
    job: &Job,
    ending: &Ending<'_>,
    now: Timestamp,
    effects: &mut Effects,
) -> rusqlite::Result<()> {
    let follow_up: Option<String> = db
        .prepare_cached(
            "UPDATE jobs SET state = :state, death = :death, lease_until_ms = NULL, finished_at_ms = :now,
                updated_at_ms = :now, last_error = coalesce(:error, last_error),
                progress = iif(:state = 'done', 1000, progress)
             WHERE id = :id AND state IN ('queued', 'leased') RETURNING on_dead",
        )?
        .query_row(
            named_params! {
                ":id": job.id,
                ":state": ending.state.as_str(),
                ":death": ending.death.map(Death::as_str),
                ":error": ending.error,
                ":now": now,
            },
            |row| row.get(0),
        )?;
    // A follow-up that does not parse cannot be: this file wrote it.
    let follow_up = follow_up.and_then(|text| serde_json::from_str::<FollowUp>(&text).ok());
    if let (Some(follow_up), false) = (follow_up, ending.state == JobState::Done) {
        let id = unused_id(db, follow_up.id)?;
        effects.causes.jobs.push(FollowUp { id, ..follow_up }.after(job, now));
    }
    Ok(())
}

/// The first id, or one near it: a dead job that was replayed and dies again has a second follow-up.
fn unused_id(db: &Connection, first: JobId) -> rusqlite::Result<JobId> {
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

fn requeue(db: &Connection, id: JobId, error: Option<&str>, run_at: Timestamp, now: Timestamp) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE jobs SET state = 'queued', lease_until_ms = NULL, run_at_ms = :run_at,
            rank_ms = :run_at - priority * :step, last_error = coalesce(:error, last_error), updated_at_ms = :now
         WHERE id = :id AND state = 'leased'",
    )?
    .execute(named_params! {":id": id, ":run_at": run_at, ":step": PRIORITY_STEP_MS, ":error": error, ":now": now})
    .map(|_| ())
}

/// Jobs whose lease has run out, with the token that lost it.
fn expired(db: &Connection, now: Timestamp) -> rusqlite::Result<Vec<(Job, i64)>> {
    // Index jobs_leases.
    db.prepare_cached(&format!(
        "SELECT {COLUMNS}, token FROM jobs WHERE state = 'leased' AND lease_until_ms <= :now
         ORDER BY lease_until_ms LIMIT {SWEEP_LIMIT}"
    ))?
    .query_map(named_params! {":now": now}, |row| Ok((job_from(row)?, row.get("token")?)))?
    .collect()
}

fn free_expired(db: &Connection, now: Timestamp, effects: &mut Effects) -> rusqlite::Result<Swept> {
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

#[async_trait]
impl JobStore for SqliteStore {
    async fn enqueue(&self, job: NewJob, causes: Causes) -> Result<Outcome<Job>, JobError> {
        self.command_with("enqueue a job", causes, move |db, _, effects| {
            let existing = match &job.unique_key {
                Some(key) => find_live(db, key)?,
                None => None,
            };
            if let Some(existing) = existing {
                return Ok(existing);
            }
            insert(db, &job)?;
            effects.hints.push(job.hint());
            find(db, job.id)?.ok_or_else(|| refuse(JobError::NotFound))
        })
        .await
    }

    async fn lease(
        &self,
        queues: &[QueueName],
        limit: u16,
        lease_for: Duration,
        worker: &str,
    ) -> Result<Vec<Lease>, JobError> {
        let (queues, worker) = (queues.to_vec(), worker.to_owned());
        self.settlement("lease jobs", Causes::none(), move |db, now, _| {
            let mut best = Vec::new();
            for queue in &queues {
                best.extend(due(db, queue, limit, now)?);
            }
            best.sort_by_key(|&(pk, rank)| (rank, pk));
            best.truncate(limit.into());
            let until = now.plus(lease_for);
            best.into_iter().map(|(pk, _)| Ok(claim(db, pk, &worker, now, until)?)).collect()
        })
        .await
    }

    async fn heartbeat(&self, fence: Fence, lease_for: Duration, progress: Option<u16>) -> Result<Heartbeat, JobError> {
        self.settlement("renew a lease", Causes::none(), move |db, now, _| {
            demand_held(db, fence, now)?;
            let until = now.plus(lease_for);
            let cancel = db
                .prepare_cached(
                    "UPDATE jobs SET lease_until_ms = :until, progress = max(progress, coalesce(:progress, 0))
                     WHERE id = :id RETURNING cancel_requested",
                )?
                .query_row(
                    named_params! {":id": fence.job, ":until": until, ":progress": progress.map(|p| p.min(1000))},
                    |row| row.get(0),
                )?;
            Ok(Heartbeat { until, cancel })
        })
        .await
    }

    async fn complete(&self, fence: Fence, causes: Causes) -> Result<(), JobError> {
        self.settlement("complete a job", causes, move |db, now, effects| {
            demand_held(db, fence, now)?;
            end_attempt(db, fence.token, "done", None, now)?;
            Ok(finish(db, &find_owned(db, fence.job, None)?, &Ending::DONE, now, effects)?)
        })
        .await
    }

    async fn fail(&self, fence: Fence, error: String, after: AfterFailure) -> Result<JobState, JobError> {
        self.settlement("fail a job", Causes::none(), move |db, now, effects| {
            demand_held(db, fence, now)?;
            let job = find_owned(db, fence.job, None)?;
            end_attempt(db, fence.token, "failed", Some(&error), now)?;
            // It may have failed because it was told to stop. A dead job could also be replayed, and
            // this one may have lost its follow-up and its unique key to whatever stopped it.
            if job.cancel_requested {
                finish(db, &job, &Ending::CANCELLED, now, effects)?;
                return Ok(JobState::Cancelled);
            }
            let death = match after {
                AfterFailure::RetryAt(run_at) if job.attempts < job.max_attempts => {
                    requeue(db, fence.job, Some(&error), run_at, now)?;
                    effects.hints.push(job.hint());
                    return Ok(JobState::Queued);
                }
                AfterFailure::RetryAt(_) => Death::Exhausted,
                AfterFailure::Dead => Death::Permanent,
            };
            finish(db, &job, &Ending::dead(death, &error), now, effects)?;
            Ok(JobState::Dead)
        })
        .await
    }

    async fn release(&self, fence: Fence) -> Result<(), JobError> {
        self.settlement("release a job", Causes::none(), move |db, now, effects| {
            demand_held(db, fence, now)?;
            end_attempt(db, fence.token, "released", None, now)?;
            let job = find_owned(db, fence.job, None)?;
            if job.cancel_requested {
                return Ok(finish(db, &job, &Ending::CANCELLED, now, effects)?);
            }
            requeue(db, fence.job, None, job.run_at, now)?;
            db.prepare_cached("UPDATE jobs SET attempts = attempts - 1 WHERE id = :id")?
                .execute(named_params! {":id": fence.job})?;
            effects.hints.push(job.hint());
            Ok(())
        })
        .await
    }

    async fn settle_cancelled(&self, fence: Fence) -> Result<(), JobError> {
        self.settlement("cancel a running job", Causes::none(), move |db, now, effects| {
            demand_held(db, fence, now)?;
            end_attempt(db, fence.token, "cancelled", None, now)?;
            Ok(finish(db, &find_owned(db, fence.job, None)?, &Ending::CANCELLED, now, effects)?)
        })
        .await
    }

    async fn cancel(&self, job: JobId, owner: Option<UserId>, causes: Causes) -> Result<Outcome<Job>, JobError> {
        self.command_with("cancel a job", causes, move |db, now, effects| {
            let found = find_owned(db, job, owner)?;
            match found.state {
                JobState::Queued => finish(db, &found, &Ending::CANCELLED, now, effects)?,
                JobState::Leased => {
                    db.prepare_cached("UPDATE jobs SET cancel_requested = 1 WHERE id = :id AND state = 'leased'")?
                        .execute(named_params! {":id": job})?;
                }
                state => return Err(refuse(JobError::WrongState { state, command: "be cancelled" })),
            }
            find_owned(db, job, owner)
        })
        .await
    }

    async fn retry(&self, job: JobId, owner: Option<UserId>, causes: Causes) -> Result<Outcome<Job>, JobError> {
        self.command_with("retry a job", causes, move |db, now, effects| {
            let found = find_owned(db, job, owner)?;
            // OR IGNORE: a live job may have taken the unique key meanwhile.
            let rows = db
                .prepare_cached(
                    "UPDATE OR IGNORE jobs SET state = 'queued', attempts = 0, progress = 0, run_at_ms = :now,
                        rank_ms = :now - priority * :step, finished_at_ms = NULL, death = NULL, cancel_requested = 0,
                        updated_at_ms = :now
                     WHERE id = :id AND state = 'dead'",
                )?
                .execute(named_params! {":id": job, ":step": PRIORITY_STEP_MS, ":now": now})?;
            if rows == 0 {
                return Err(refuse(JobError::WrongState { state: found.state, command: "be retried" }));
            }
            effects.hints.push(found.hint());
            find_owned(db, job, owner)
        })
        .await
    }

    async fn sweep(&self) -> Result<Swept, JobError> {
        self.settlement("sweep expired leases", Causes::none(), move |db, now, effects| {
            Ok(free_expired(db, now, effects)?)
        })
        .await
    }

    async fn next_due(&self, queues: &[QueueName]) -> Result<Option<Timestamp>, JobError> {
        let queues = queues.to_vec();
        self.read("find the next due job", move |db| {
            let mut next: Option<Timestamp> = None;
            for queue in &queues {
                // Index jobs_run_at.
                let due: Option<Timestamp> = db
                    .prepare_cached("SELECT min(run_at_ms) FROM jobs WHERE queue = :queue AND state = 'queued'")?
                    .query_row(named_params! {":queue": queue.as_str()}, |row| row.get(0))?;
                next = match (next, due) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
            }
            Ok(next)
        })
        .await
    }

    async fn job(&self, id: JobId) -> Result<Option<Job>, JobError> {
        self.read("read a job", move |db| Ok(find(db, id)?)).await
    }

    async fn jobs(&self, filter: &JobFilter, after: Option<Position>, limit: u16) -> Result<Vec<Job>, JobError> {
        let filter = filter.clone();
        self.read("list jobs", move |db| Ok(list(db, &filter, after, limit)?)).await
    }

    async fn job_counts(&self) -> Result<Vec<(QueueName, JobState, u64)>, JobError> {
        self.read("count jobs", move |db| {
            let counts = db
                .prepare_cached(
                    "SELECT queue, state, count(*) FROM jobs WHERE state IN ('queued', 'leased', 'dead')
                     GROUP BY queue, state",
                )?
                .query_map([], |row| {
                    let queue = QueueName::new(row.get::<_, String>(0)?);
                    Ok((queue, named(row, "state", JobState::parse)?, row.get::<_, i64>(2)?.unsigned_abs()))
                })?
                .collect::<rusqlite::Result<_>>()?;
            Ok(counts)
        })
        .await
    }
}

fn list(db: &Connection, filter: &JobFilter, after: Option<Position>, limit: u16) -> rusqlite::Result<Vec<Job>> {
    // Indexes jobs_video, jobs_owner or jobs_newest, by what the filter names. The text is made of
    // fixed parts only; every value is bound.
    let mut conditions = vec!["1"];
    let mut values: Vec<(&str, Value)> = Vec::new();
    if let Some(owner) = filter.owner {
        conditions.push("owner_id = :owner");
        values.push((":owner", Value::Blob(owner.as_bytes().to_vec())));
    }
    if let Some(video) = filter.video {
        conditions.push("video_id = :video");
        values.push((":video", Value::Blob(video.as_bytes().to_vec())));
    }
    if let Some(state) = filter.state {
        conditions.push("state = :state");
        values.push((":state", Value::Text(state.as_str().to_owned())));
    }
    if let Some(after) = after {
        conditions.push("(created_at_ms, id) < (:sort, :after)");
        values.push((":sort", Value::Integer(after.sort)));
        values.push((":after", Value::Blob(after.id.to_vec())));
    }
    values.push((":limit", Value::Integer(limit.into())));
    let sql = format!(
        "SELECT {COLUMNS} FROM jobs WHERE {} ORDER BY created_at_ms DESC, id DESC LIMIT :limit",
        conditions.join(" AND ")
    );
    let params: Vec<(&str, &dyn rusqlite::ToSql)> =
        values.iter().map(|(name, value)| (*name, value as &dyn rusqlite::ToSql)).collect();
    db.prepare_cached(&sql)?.query_map(params.as_slice(), job_from)?.collect()
}
