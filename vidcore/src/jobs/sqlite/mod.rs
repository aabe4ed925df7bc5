//! SQL of the jobs: claims, settlements and the sweep.
//!
//! Every settlement first proves the lease (`held`), in the same transaction as all it writes.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, named_params};

use crate::clock::Timestamp;
use crate::id::{JobId, UserId, VideoId};
use crate::jobs::{
    AfterFailure, Death, Heartbeat, Job, JobError, JobFilter, JobState, JobStore, Lease, NewJob, QueueName, Swept,
};
use crate::page::Position;
use crate::store::sqlite::{Fail, SqliteStore, named, refuse};
use crate::store::{Causes, Fence, Outcome};

mod claim;
mod rows;
mod settle;

use claim::{claim, due};
use rows::{find, find_live, find_owned, list};
use settle::{Ending, end_attempt, finish, free_expired, requeue};

/// What a step of priority is worth: a job of one more step goes before those a minute older.
const PRIORITY_STEP_MS: i64 = 60_000;

/// How far the lowest priority, −10, puts a job behind others of its age.
const LOWEST_PRIORITY_MS: i64 = 10 * PRIORITY_STEP_MS;

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
            // Index jobs_counted.
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
