//! Durable background work: a job is a row of the database that holds what it is about.
//!
//! The store decides who owns a job; a [`Dispatcher`](dispatcher::Dispatcher) only carries hints
//! that there is something to claim, and a lost hint costs a sweep interval, never a job.

use std::num::NonZeroU32;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::id::{JobId, UserId, VideoId};
use crate::invalid::FieldProblem;
use crate::page::Position;
use crate::store::{Causes, Fence, Outcome, StoreError};

pub mod cron;
pub mod dispatcher;
mod heart;
mod input;
pub mod job;
pub mod retry;
pub mod service;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;
pub mod view;
pub mod worker;

pub use input::is_name;
pub use job::{
    Attempt, AttemptOutcome, Death, FollowUp, Job, JobHint, JobState, Lease, NewJob, NewJobGroup, QueueName, QueueStats,
};
pub use service::{JobActor, JobQuery, Jobs};
pub use view::{AttemptView, JobView, JobWithHistory};

/// Why a job command was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// No such job, or none the caller may know of.
    #[error("job not found")]
    NotFound,
    /// Another worker may own the job now; discard this result.
    #[error("lease on {job} is no longer held")]
    LeaseLost {
        /// The job.
        job: JobId,
    },
    /// The job's state does not allow the command.
    #[error("a job that is {state} cannot {command}")]
    WrongState {
        /// The state it is in.
        state: JobState,
        /// What was asked, as a verb.
        command: &'static str,
    },
    /// The caller is known and may not do this, whatever it is done to.
    #[error("this needs an administrator")]
    Forbidden,
    /// The job breaks rules.
    #[error("job is not valid")]
    Invalid(Vec<FieldProblem>),
    /// The cursor is not one of this list's.
    #[error("cursor does not belong to this list")]
    BadCursor,
    /// The store did not carry the command out.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl JobError {
    /// Whether the same call may succeed later without any change by the caller.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_retryable())
    }
}

/// What a heartbeat brings back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// How long the lease holds now, by the store's clock.
    pub until: Timestamp,
    /// Somebody asked the job to stop.
    pub cancel: bool,
}

/// How a failed attempt goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterFailure {
    /// Queued again, not before this moment; dead if the attempts are used up.
    RetryAt(Timestamp),
    /// Queued again, not before this moment, and the attempt does not count: it met what no number of
    /// attempts mends and time does, such as a full disk.
    PostponeTo(Timestamp),
    /// Dead at once: trying again cannot help.
    Dead,
}

/// What a sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Jobs whose lease had run out and that are queued again.
    pub rescued: u64,
    /// Jobs whose lease had run out on their last attempt.
    pub dead: u64,
}

/// What a worker wants to work on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Of these queues; the paused ones among them give nothing.
    pub queues: Vec<QueueName>,
    /// At most this many jobs.
    pub limit: u16,
    /// How long each is held without a heartbeat.
    pub lease_for: Duration,
    /// What the worker calls itself, at most 200 bytes, for the record.
    pub worker: String,
    /// The most jobs of one owner that may run at once in one queue, over all workers; `None`: any number.
    pub per_owner: Option<NonZeroU32>,
}

/// What a bulk replay did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Replay {
    /// Dead jobs that are queued again.
    pub replayed: u64,
    /// Dead jobs that stay so, because a live job has their unique key; while there are more, only those that
    /// died before the last one that is queued.
    pub left_out: u64,
    /// Whether there are more than one call takes.
    pub more: bool,
}

/// How long ended jobs are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobRetention {
    /// Those that are done or cancelled and ended before this moment go.
    pub done_before: Timestamp,
    /// Those that are dead and ended before this moment go.
    pub dead_before: Timestamp,
}

/// Which jobs a list holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Only those of this queue.
    pub queue: Option<QueueName>,
    /// Only those of this kind.
    pub kind: Option<String>,
    /// Only those about this owner's videos; `None` for an admin.
    pub owner: Option<UserId>,
    /// Only those about this video.
    pub video: Option<VideoId>,
    /// Only those in this state.
    pub state: Option<JobState>,
}

/// The queue of jobs that check uploads.
pub const UPLOADS_QUEUE: &str = "uploads";

/// The topic of notices that a running job is to stop; the key is its id.
pub const JOB_CANCELS: &str = "job_cancels";

/// The topic of notices that a queue which was paused goes on; the key is its name.
pub const JOB_RESUMES: &str = "job_resumes";

/// The queue of jobs that make renditions and pictures, which may take hours.
pub const MEDIA_QUEUE: &str = "media";

/// The queue of jobs that plan what is to be made of a video and say what became of it, which take moments.
pub const VIDEO_QUEUE: &str = "video";

/// The queues whose jobs end when their video is trashed or gets a new source.
#[cfg(feature = "sqlite")]
pub(crate) const QUEUES_OF_VIDEOS: [&str; 2] = [VIDEO_QUEUE, MEDIA_QUEUE];

/// Jobs as rows of the database that holds the videos they are about.
///
/// # Contract
/// * At most one unexpired lease exists per job; an expired lease frees the job at the next sweep.
/// * Delivery is at least once, so handlers must be idempotent.
/// * Order: in each queue the owner with the fewest running jobs goes next, of those the one served
///   longest ago; of one owner's jobs the lowest `rank` (`run_at − priority · 60 s`), ties by age. Of
///   several queues the one whose next job has the lowest rank goes first. Jobs of nobody count as one owner's.
/// * A paused queue gives no job; what runs goes on. An owner at the limit of a claim is passed over.
/// * An attempt counts when it is claimed; its token is greater than every token minted before.
/// * Leases are judged by the store's own clock (the injected one for SQLite), never by a worker's.
/// * `done`, `dead` and `cancelled` are final, but for an explicit replay of a dead job.
#[async_trait]
pub trait JobStore: Send + Sync {
    /// Enqueues a job; if its unique key has a live job, that one is returned instead.
    async fn enqueue(&self, job: NewJob, causes: Causes) -> Result<Outcome<Job>, JobError>;

    /// Leases due jobs, those that go first first; empty when none may be claimed.
    async fn lease(&self, claim: Claim) -> Result<Vec<Lease>, JobError>;

    /// Renews a lease and records progress (0 to 1000 permille, never lowered).
    ///
    /// # Errors
    /// [`JobError::LeaseLost`].
    async fn heartbeat(&self, fence: Fence, lease_for: Duration, progress: Option<u16>) -> Result<Heartbeat, JobError>;

    /// Marks the leased job done, with what it causes, in one transaction.
    ///
    /// # Errors
    /// [`JobError::LeaseLost`] if the lease expired meanwhile; then nothing is written.
    async fn complete(&self, fence: Fence, causes: Causes) -> Result<(), JobError>;

    /// Ends the attempt with an error and returns the state the job is in now. A job that dies writes
    /// its follow-up in the same transaction; one that was asked to stop meanwhile is `cancelled`
    /// instead, also where it failed for good.
    ///
    /// # Errors
    /// [`JobError::LeaseLost`].
    async fn fail(&self, fence: Fence, error: String, after: AfterFailure) -> Result<JobState, JobError>;

    /// Gives the job back as it was before the claim, its place in the order included; the attempt
    /// does not count. A job that was asked to stop meanwhile is `cancelled` instead.
    ///
    /// # Errors
    /// [`JobError::LeaseLost`].
    async fn release(&self, fence: Fence) -> Result<(), JobError>;

    /// Ends an attempt that was asked to stop: the job is `cancelled`.
    ///
    /// # Errors
    /// [`JobError::LeaseLost`].
    async fn settle_cancelled(&self, fence: Fence) -> Result<(), JobError>;

    /// Asks a job to stop: a queued one is cancelled at once, a leased one at its next heartbeat.
    ///
    /// # Errors
    /// [`JobError::NotFound`], [`JobError::WrongState`] if it has ended.
    async fn cancel(&self, job: JobId, owner: Option<UserId>, causes: Causes) -> Result<Outcome<Job>, JobError>;

    /// Queues a dead job again, with all its attempts.
    ///
    /// # Errors
    /// [`JobError::NotFound`], [`JobError::WrongState`] unless it is dead and no live job has its
    /// unique key.
    async fn retry(&self, job: JobId, owner: Option<UserId>, causes: Causes) -> Result<Outcome<Job>, JobError>;

    /// Queues dead jobs that the filter names again (its state is not looked at), those that died first
    /// first, each with all its attempts; at most `limit` of them. Those whose unique key has a live job are
    /// passed over, so that they keep nobody behind them from being reached.
    async fn replay(&self, filter: &JobFilter, limit: u16, causes: Causes) -> Result<Outcome<Replay>, JobError>;

    /// Pauses a queue or lets it go on, whether or not it has jobs; doing it twice changes nothing.
    async fn set_paused(&self, queue: &QueueName, paused: bool, causes: Causes) -> Result<Outcome<()>, JobError>;

    /// Frees jobs whose lease has run out; those on their last attempt die and write their follow-up.
    async fn sweep(&self) -> Result<Swept, JobError>;

    /// Writes `job` if none was written yet for this moment of the schedule called `name`, nor for a later
    /// one: however many nodes call it, one job is written. The first call of all for a name only notes
    /// the moment. `true` if the job was written.
    async fn fire(&self, name: &str, slot: Timestamp, job: NewJob) -> Result<bool, JobError>;

    /// Deletes up to `limit` jobs that ended long enough ago, with their attempts; returns how many went.
    async fn prune_jobs(&self, retention: JobRetention, limit: u16) -> Result<u64, JobError>;

    /// When the next queued job of these queues may be claimed: those of paused queues and of owners who
    /// have `per_owner` running are not counted. `None` if there is none.
    async fn next_due(
        &self,
        queues: &[QueueName],
        per_owner: Option<NonZeroU32>,
    ) -> Result<Option<Timestamp>, JobError>;

    /// The job with this id.
    async fn job(&self, id: JobId) -> Result<Option<Job>, JobError>;

    /// Up to `limit` jobs after `after`, newest first (sorted by creation time).
    async fn jobs(&self, filter: &JobFilter, after: Option<Position>, limit: u16) -> Result<Vec<Job>, JobError>;

    /// The latest claims of a job, newest first, at most 100.
    async fn attempts(&self, job: JobId) -> Result<Vec<Attempt>, JobError>;

    /// How many jobs of each queue are queued, leased or dead; what there is none of is left out.
    async fn job_counts(&self) -> Result<Vec<(QueueName, JobState, u64)>, JobError>;

    /// Every queue that has jobs which have not been forgotten, or is paused, by name.
    async fn queues(&self) -> Result<Vec<QueueStats>, JobError>;
}
