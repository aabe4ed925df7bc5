//! The job: its row, its states, and the lease under which it is worked on.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::id::{JobGroupId, JobId, UserId, VideoId};
use crate::store::Fence;

/// The name of a queue, such as `media`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct QueueName(String);

impl QueueName {
    /// The queue called `name`.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a job is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum JobState {
    /// Waits to be claimed, perhaps not before `run_at`.
    Queued,
    /// A worker holds it.
    Leased,
    /// Ended well.
    Done,
    /// Ended badly, for good.
    Dead,
    /// Ended because somebody asked for it.
    Cancelled,
}

impl JobState {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Queued, Self::Leased, Self::Done, Self::Dead, Self::Cancelled];

    /// Allowed moves: `queued → leased → done | queued | dead | cancelled`, `queued → cancelled`,
    /// and `dead → queued` by replay.
    pub fn can_become(self, next: Self) -> bool {
        use JobState::{Cancelled, Dead, Done, Leased, Queued};
        matches!(
            (self, next),
            (Queued, Leased | Cancelled) | (Leased, Done | Queued | Dead | Cancelled) | (Dead, Queued)
        )
    }

    /// Whether the job has ended.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Dead | Self::Cancelled)
    }

    /// The name used in tables and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Leased => "leased",
            Self::Done => "done",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state with this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a job is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Death {
    /// Its handler said that trying again cannot help.
    Permanent,
    /// Its last attempt failed.
    Exhausted,
    /// The worker of its last attempt went away.
    Lost,
}

impl Death {
    /// The name used in tables and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Permanent => "permanent",
            Self::Exhausted => "exhausted",
            Self::Lost => "lost",
        }
    }

    /// The death with this name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Permanent, Self::Exhausted, Self::Lost].into_iter().find(|death| death.as_str() == text)
    }
}

/// A job to be enqueued.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewJob {
    /// Its id.
    pub id: JobId,
    /// Which workers may claim it.
    pub queue: QueueName,
    /// Which handler runs it, such as `process_video`.
    pub kind: String,
    /// What the handler needs: ids, never secrets or whole objects.
    pub payload: serde_json::Value,
    /// −10 to 10; each step is worth a minute of age.
    pub priority: i8,
    /// Not before this moment.
    pub run_at: Timestamp,
    /// How often it may be claimed, at least 1.
    pub max_attempts: u16,
    /// At most one live job has this key.
    pub unique_key: Option<String>,
    /// On whose behalf it runs.
    pub owner: Option<UserId>,
    /// The video it is about.
    pub video: Option<VideoId>,
    /// Written as a job by the transaction that ends this one otherwise than well.
    pub on_dead: Option<FollowUp>,
    /// The group it belongs to, which is written by the same transaction or was before.
    pub group: Option<JobGroupId>,
    /// When it is enqueued.
    pub now: Timestamp,
}

/// Fan-in: jobs whose last to end, well or not, is followed by another in the same transaction.
///
/// The jobs name the group by its id and are written with it, by the same [`Causes`](crate::store::Causes);
/// a group none of whose jobs was written (each had a live twin of its unique key) is followed at once.
/// A member that is dead and is replayed later does not count a second time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewJobGroup {
    /// Its id.
    pub id: JobGroupId,
    /// What follows.
    pub next: NewJob,
}

/// The job that follows when another dies or is cancelled. Runs for the same owner and video.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FollowUp {
    /// Its id, drawn when the first job is made.
    pub id: JobId,
    /// Which workers may claim it; `None`: those of the job that died.
    #[serde(default)]
    pub queue: Option<QueueName>,
    /// Which handler runs it.
    pub kind: String,
    /// What the handler needs.
    pub payload: serde_json::Value,
    /// How often it may be claimed, at least 1.
    pub max_attempts: u16,
}

/// A job as its row says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// Which workers may claim it.
    pub queue: QueueName,
    /// Which handler runs it.
    pub kind: String,
    /// What the handler needs.
    pub payload: serde_json::Value,
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
    /// What the last failed attempt said.
    pub last_error: Option<String>,
    /// Why it is dead, if it is.
    pub death: Option<Death>,
    /// On whose behalf it runs.
    pub owner: Option<UserId>,
    /// The video it is about.
    pub video: Option<VideoId>,
    /// Somebody asked it to stop.
    pub cancel_requested: bool,
    /// When it was enqueued.
    pub created_at: Timestamp,
    /// When it last changed: its state, or its lease by a heartbeat.
    pub updated_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

impl FollowUp {
    /// The follow-up of `job` as a job of its own.
    pub fn after(self, job: &Job, now: Timestamp) -> NewJob {
        NewJob {
            id: self.id,
            queue: self.queue.unwrap_or_else(|| job.queue.clone()),
            kind: self.kind,
            payload: self.payload,
            priority: 0,
            run_at: now,
            max_attempts: self.max_attempts,
            unique_key: None,
            owner: job.owner,
            video: job.video,
            on_dead: None,
            group: None,
            now,
        }
    }
}

impl NewJob {
    /// A job of `kind` for the handlers of `queue`, due now, of middle priority, tried once, on nobody's behalf.
    pub fn new(id: JobId, queue: &str, kind: &str, payload: serde_json::Value, now: Timestamp) -> Self {
        Self {
            id,
            queue: QueueName::new(queue),
            kind: kind.to_owned(),
            payload,
            priority: 0,
            run_at: now,
            max_attempts: 1,
            unique_key: None,
            owner: None,
            video: None,
            on_dead: None,
            group: None,
            now,
        }
    }

    /// The hint that it is queued.
    pub fn hint(&self) -> JobHint {
        JobHint { queue: self.queue.clone(), job: self.id }
    }
}

impl Job {
    /// The job as it is once `new` is written.
    #[cfg_attr(not(feature = "sqlite"), expect(dead_code, reason = "stores call it"))]
    pub(crate) fn queued(new: &NewJob) -> Self {
        Self {
            id: new.id,
            queue: new.queue.clone(),
            kind: new.kind.clone(),
            payload: new.payload.clone(),
            state: JobState::Queued,
            priority: new.priority,
            run_at: new.run_at,
            attempts: 0,
            max_attempts: new.max_attempts,
            progress: 0,
            last_error: None,
            death: None,
            owner: new.owner,
            video: new.video,
            cancel_requested: false,
            created_at: new.now,
            updated_at: new.now,
            finished_at: None,
        }
    }

    /// The hint that it is queued.
    pub fn hint(&self) -> JobHint {
        JobHint { queue: self.queue.clone(), job: self.id }
    }
}

/// A job that the caller may work on until `until`.
#[derive(Debug, Clone, PartialEq)]
pub struct Lease {
    /// The job as claimed.
    pub job: Job,
    /// Greater than that of every earlier attempt of any job.
    pub token: i64,
    /// By the store's clock.
    pub until: Timestamp,
}

impl Lease {
    /// What every write on the job's behalf names.
    pub fn fence(&self) -> Fence {
        Fence { job: self.job.id, token: self.token }
    }
}

/// A hint that a job was queued and can be claimed, now or once it is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobHint {
    /// The queue to look at.
    pub queue: QueueName,
    /// Which job; hints are never the truth.
    pub job: JobId,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum AttemptOutcome {
    /// Well: the job is done.
    Done,
    /// With an error.
    Failed,
    /// Its lease ran out.
    Lost,
    /// It was given back, uncounted.
    Released,
    /// It was asked to stop and did.
    Cancelled,
}

impl AttemptOutcome {
    const ALL: [Self; 5] = [Self::Done, Self::Failed, Self::Lost, Self::Released, Self::Cancelled];

    /// The name used in tables and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Lost => "lost",
            Self::Released => "released",
            Self::Cancelled => "cancelled",
        }
    }

    /// The outcome with this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == text)
    }
}

/// One claim of a job and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Attempt {
    /// Its token.
    pub token: i64,
    /// Who claimed it, as the worker calls itself.
    pub worker: String,
    /// When it was claimed.
    pub started_at: Timestamp,
    /// When it ended; `null` while it runs.
    pub ended_at: Option<Timestamp>,
    /// How it ended.
    pub outcome: Option<AttemptOutcome>,
    /// What it said when it failed.
    pub error: Option<String>,
}

/// How full a queue is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct QueueStats {
    /// Which queue.
    pub queue: QueueName,
    /// Since when nothing of it is claimed; `null` unless it is paused.
    pub paused_since: Option<Timestamp>,
    /// Jobs that are queued and due.
    pub ready: u64,
    /// Jobs that are queued and due later.
    pub delayed: u64,
    /// Jobs that are leased.
    pub running: u64,
    /// Jobs that are dead and not yet forgotten.
    pub dead: u64,
    /// Since when the oldest of the due jobs could have been claimed.
    pub oldest_due_at: Option<Timestamp>,
}

impl QueueStats {
    /// A queue in which there is nothing.
    pub fn empty(queue: QueueName) -> Self {
        Self { queue, paused_since: None, ready: 0, delayed: 0, running: 0, dead: 0, oldest_due_at: None }
    }

    /// Whether there is nothing to tell of it.
    pub fn is_idle(&self) -> bool {
        self.paused_since.is_none() && self.ready + self.delayed + self.running + self.dead == 0
    }
}
