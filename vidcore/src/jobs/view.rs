//! Jobs as the API and the command line show them.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::id::{JobId, VideoId};
use crate::jobs::{Attempt, AttemptOutcome, Death, Job, JobState, QueueName};

/// A job, without its payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobView {
    /// Its id.
    pub id: JobId,
    /// Which workers may claim it.
    pub queue: QueueName,
    /// What it does, such as `process_video`.
    pub kind: String,
    /// Where it is in its life.
    pub state: JobState,
    /// −10 to 10.
    pub priority: i8,
    /// Not before this moment.
    pub run_at: Timestamp,
    /// How often it was claimed.
    pub attempts: u16,
    /// How often it may be claimed.
    pub max_attempts: u16,
    /// 0 to 1000 permille.
    pub progress: u16,
    /// What the last failed attempt said; shown to admins, and to owners where it is meant for them.
    pub last_error: Option<String>,
    /// Why it is dead, if it is.
    pub death: Option<Death>,
    /// The video it is about.
    pub video_id: Option<VideoId>,
    /// Somebody asked it to stop.
    pub cancel_requested: bool,
    /// When it was enqueued.
    pub created_at: Timestamp,
    /// When it last changed: its state, or its lease by a heartbeat.
    pub updated_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

/// A job with what came of it so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobWithHistory {
    /// The job.
    #[serde(flatten)]
    pub job: JobView,
    /// Its latest claims, newest first, at most 100; also those that were not counted or were before a retry.
    pub history: Vec<AttemptView>,
}

/// One claim of a job and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AttemptView {
    /// When it was claimed.
    pub started_at: Timestamp,
    /// When it ended; `null` while it runs.
    pub ended_at: Option<Timestamp>,
    /// How it ended; `null` while it runs.
    pub outcome: Option<AttemptOutcome>,
    /// What it said when it failed; shown to admins, and to owners where it is meant for them.
    pub error: Option<String>,
    /// Its token, as logs name it; shown to admins.
    pub token: Option<i64>,
    /// Who claimed it, as the worker calls itself; shown to admins.
    pub worker: Option<String>,
}

/// How much of a job is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// What its owner may know.
    Owner,
    /// What is the server's own as well: texts of errors, names of workers.
    Operator,
}

impl Detail {
    /// The text of a failure that is not permanent is the server's own and may name its inner parts.
    fn shows_errors_of(self, death: Option<Death>) -> bool {
        self == Self::Operator || death == Some(Death::Permanent)
    }

    /// The job as it is shown.
    pub(super) fn job(self, job: Job) -> JobView {
        JobView {
            id: job.id,
            queue: job.queue,
            kind: job.kind,
            state: job.state,
            priority: job.priority,
            run_at: job.run_at,
            attempts: job.attempts,
            max_attempts: job.max_attempts,
            progress: job.progress,
            last_error: job.last_error.filter(|_| self.shows_errors_of(job.death)),
            death: job.death,
            video_id: job.video,
            cancel_requested: job.cancel_requested,
            created_at: job.created_at,
            updated_at: job.updated_at,
            finished_at: job.finished_at,
        }
    }

    /// The job with its claims, newest first, as they are shown.
    pub(super) fn with_history(self, job: Job, attempts: Vec<Attempt>) -> JobWithHistory {
        // Only the attempt that a job died of was permanent; those before it were tried again.
        let last_words = attempts.first().map(|attempt| attempt.token).filter(|_| self.shows_errors_of(job.death));
        let history = attempts.into_iter().map(|attempt| self.attempt(attempt, last_words)).collect();
        JobWithHistory { job: self.job(job), history }
    }

    fn attempt(self, attempt: Attempt, last_words: Option<i64>) -> AttemptView {
        let operator = self == Self::Operator;
        AttemptView {
            started_at: attempt.started_at,
            ended_at: attempt.ended_at,
            outcome: attempt.outcome,
            error: attempt.error.filter(|_| operator || last_words == Some(attempt.token)),
            token: operator.then_some(attempt.token),
            worker: operator.then_some(attempt.worker),
        }
    }
}
