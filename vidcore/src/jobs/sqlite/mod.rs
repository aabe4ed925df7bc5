//! SQL of the jobs: claims, settlements and the sweep.
//!
//! Every settlement first proves the lease (`held`), in the same transaction as all it writes.

use std::num::NonZeroU32;
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, named_params};

use crate::clock::Timestamp;
use crate::events::NewChange;
use crate::id::{JobId, UserId, VideoId};
use crate::jobs::{
    AfterFailure, Attempt, Claim, Death, Heartbeat, JOB_CANCELS, Job, JobError, JobFilter, JobRetention, JobState,
    JobStore, Lease, NewJob, QueueName, QueueStats, Replay, Swept,
};
use crate::page::Position;
use crate::store::sqlite::{Effects, Fail, SqliteStore, refuse};
use crate::store::{Causes, Fence, Outcome};

#[cfg(feature = "testkit")]
pub(crate) mod bare;
mod claim;
mod insert;
mod operate;
pub(crate) mod repair;
mod rows;
mod settle;

pub(crate) use insert::insert_all;
pub(crate) use operate::next_of_all;

use rows::{find, find_live, find_owned, list};
use settle::{Ending, end_attempt, finish, finish_done, free_expired, requeue, uncount};

/// What a step of priority is worth: a job of one more step goes before those a minute older.
const PRIORITY_STEP_MS: i64 = 60_000;

/// How far from now a moment may lie that was written by a clock which was right: no lease and no slot of a
/// schedule does.
const CLOCK_SLACK: Duration = Duration::from_secs(86_400);

/// The most attempts shown of one job.
const ATTEMPTS_SHOWN: u16 = 100;

type Result<T, E = Fail<JobError>> = std::result::Result<T, E>;

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

/// Cancels what is queued and asks what is leased to stop, for a video's jobs of these queues. Their
/// follow-ups are not written: the caller's own transaction says what becomes of the video. They give
/// their unique keys up, so that a job made later need not wait for one that is still stopping. What runs
/// hears of it at once.
pub(crate) fn cancel_of_video(
    db: &Connection,
    video: VideoId,
    queues: &[&str],
    now: Timestamp,
    effects: &mut Effects,
) -> rusqlite::Result<()> {
    for queue in queues {
        // By the video's few jobs: left to itself, SQLite goes by the queue's many.
        db.prepare_cached(
            "UPDATE jobs INDEXED BY jobs_video SET state = 'cancelled', finished_at_ms = :now, updated_at_ms = :now
             WHERE video_id = :video AND queue = :queue AND state = 'queued'",
        )?
        .execute(named_params! {":video": video, ":queue": queue, ":now": now})?;
        let mut stop = db.prepare_cached(
            "UPDATE jobs INDEXED BY jobs_video SET cancel_requested = 1, on_dead = NULL, unique_key = NULL
             WHERE video_id = :video AND queue = :queue AND state = 'leased' RETURNING id",
        )?;
        for job in stop.query_map(named_params! {":video": video, ":queue": queue}, |row| row.get::<_, JobId>(0))? {
            effects.causes.changes.push(NewChange::new(JOB_CANCELS, job?.to_string()));
        }
        disband(db, video, queue)?;
    }
    Ok(())
}

/// Cancels every live job of a video at once, whatever its queue: what runs loses its lease, nothing
/// follows, and no group waits for it.
pub(crate) fn end_all_of_video(db: &Connection, video: VideoId, now: Timestamp) -> rusqlite::Result<()> {
    // Index jobs_video.
    for sql in [
        "UPDATE job_attempts SET ended_at_ms = :now, outcome = 'cancelled' WHERE ended_at_ms IS NULL AND job_pk IN (
            SELECT pk FROM jobs WHERE video_id = :video AND state = 'leased')",
        "DELETE FROM job_groups WHERE :now IS NOT NULL AND id IN (
            SELECT group_id FROM jobs WHERE video_id = :video AND group_id IS NOT NULL)",
        "UPDATE jobs SET state = 'cancelled', lease_until_ms = NULL, finished_at_ms = :now, updated_at_ms = :now,
            group_id = NULL
         WHERE video_id = :video AND state IN ('queued', 'leased')",
    ] {
        db.prepare_cached(sql)?.execute(named_params! {":video": video, ":now": now})?;
    }
    Ok(())
}

/// Deletes every job of a video with its attempts. They end first: whose turn it is is counted by the
/// changes of their states.
pub(crate) fn forget_all_of_video(db: &Connection, video: VideoId, now: Timestamp) -> rusqlite::Result<()> {
    end_all_of_video(db, video, now)?;
    db.prepare_cached("DELETE FROM jobs WHERE video_id = :video")?.execute(named_params! {":video": video}).map(|_| ())
}

/// Nothing follows the groups of a video's jobs any more.
fn disband(db: &Connection, video: VideoId, queue: &str) -> rusqlite::Result<()> {
    db.prepare_cached(
        "DELETE FROM job_groups WHERE id IN (
            SELECT group_id FROM jobs WHERE video_id = :video AND queue = :queue AND group_id IS NOT NULL)",
    )?
    .execute(named_params! {":video": video, ":queue": queue})?;
    db.prepare_cached(
        "UPDATE jobs SET group_id = NULL WHERE video_id = :video AND queue = :queue AND group_id IS NOT NULL",
    )?
    .execute(named_params! {":video": video, ":queue": queue})?;
    Ok(())
}

/// Ends a job well; `false` if the fence's attempt does not hold it, and then nothing is written.
fn complete(db: &Connection, fence: Fence, now: Timestamp, effects: &mut Effects) -> rusqlite::Result<bool> {
    if !held(db, fence, now)? {
        return Ok(false);
    }
    end_attempt(db, fence.token, "done", None, now)?;
    finish_done(db, fence.job, now, effects)?;
    Ok(true)
}

fn demand_held(db: &Connection, fence: Fence, now: Timestamp) -> Result<()> {
    if held(db, fence, now)? { Ok(()) } else { Err(refuse(JobError::LeaseLost { job: fence.job })) }
}

#[async_trait]
impl JobStore for SqliteStore {
    async fn enqueue(&self, job: NewJob, causes: Causes) -> Result<Outcome<Job>, JobError> {
        self.command_with("enqueue a job", causes, move |db, now, effects| {
            let existing = match &job.unique_key {
                Some(key) => find_live(db, key)?,
                None => None,
            };
            if let Some(existing) = existing {
                return Ok(existing);
            }
            let queued = Job::queued(&job);
            effects.hints.extend(insert_all(db, vec![job], &[], now)?);
            Ok(queued)
        })
        .await
    }

    async fn lease(&self, claim: Claim) -> Result<Vec<Lease>, JobError> {
        self.settlement("lease jobs", Causes::none(), move |db, now, _| Ok(claim::lease(db, &claim, now)?)).await
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
            if complete(db, fence, now, effects)? {
                Ok(())
            } else {
                Err(refuse(JobError::LeaseLost { job: fence.job }))
            }
        })
        .await
    }

    async fn fail(&self, fence: Fence, error: String, after: AfterFailure) -> Result<JobState, JobError> {
        self.settlement("fail a job", Causes::none(), move |db, now, effects| {
            demand_held(db, fence, now)?;
            let job = find_owned(db, fence.job, None)?;
            let uncounted = matches!(after, AfterFailure::PostponeTo(_)) && !job.cancel_requested;
            end_attempt(db, fence.token, if uncounted { "released" } else { "failed" }, Some(&error), now)?;
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
                AfterFailure::PostponeTo(run_at) => {
                    requeue(db, fence.job, Some(&error), run_at, now)?;
                    uncount(db, fence.job)?;
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
            uncount(db, fence.job)?;
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
                    effects.causes.changes.push(NewChange::new(JOB_CANCELS, job.to_string()));
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
            if !operate::requeue_dead(db, job, now)? {
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

    async fn replay(&self, filter: &JobFilter, limit: u16, causes: Causes) -> Result<Outcome<Replay>, JobError> {
        let filter = filter.clone();
        self.command_with("replay dead jobs", causes, move |db, now, effects| {
            Ok(operate::replay(db, &filter, limit, now, effects)?)
        })
        .await
    }

    async fn set_paused(&self, queue: &QueueName, paused: bool, causes: Causes) -> Result<Outcome<()>, JobError> {
        let queue = queue.clone();
        self.command("pause a queue", causes, move |db, now| Ok(operate::set_paused(db, &queue, paused, now)?)).await
    }

    async fn fire(&self, name: &str, slot: Timestamp, job: NewJob) -> Result<bool, JobError> {
        let name = name.to_owned();
        self.settlement("fire a schedule", Causes::none(), move |db, now, effects| {
            let written = operate::fire(db, &name, slot, &job, now)?;
            effects.hints.extend(written.then(|| job.hint()));
            Ok(written)
        })
        .await
    }

    async fn prune_jobs(&self, retention: JobRetention, limit: u16) -> Result<u64, JobError> {
        self.command("forget ended jobs", Causes::none(), move |db, _| Ok(operate::prune(db, retention, limit)?))
            .await
            .map(Outcome::into_inner)
    }

    async fn next_due(
        &self,
        queues: &[QueueName],
        per_owner: Option<NonZeroU32>,
    ) -> Result<Option<Timestamp>, JobError> {
        let queues = queues.to_vec();
        self.read("find the next due job", move |db| {
            let mut next: Option<Timestamp> = None;
            for queue in &queues {
                next = match (next, operate::next_due(db, queue, per_owner)?) {
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

    async fn attempts(&self, job: JobId) -> Result<Vec<Attempt>, JobError> {
        self.read("list attempts", move |db| Ok(operate::attempts(db, job, ATTEMPTS_SHOWN)?)).await
    }

    async fn job_counts(&self) -> Result<Vec<(QueueName, JobState, u64)>, JobError> {
        self.read("count jobs", move |db| Ok(operate::counts(db)?)).await
    }

    async fn queues(&self) -> Result<Vec<QueueStats>, JobError> {
        self.read("measure queues", move |db| Ok(operate::queues(db)?)).await
    }
}
