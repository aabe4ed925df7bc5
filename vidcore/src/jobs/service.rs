//! Jobs as people see and steer them: the owner of a video its jobs, an admin all.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::auth::{Actor, Role};
use crate::clock::Timestamp;
use crate::id::{JobId, UserId, VideoId};
use crate::idempotency::IdempotencyKey;
use crate::jobs::{Death, Job, JobError, JobFilter, JobState, NewJob, QueueName};
use crate::media::jobs::FAIL_VIDEO;
use crate::page::{Page, PageLimit, Position};
use crate::platform::parts::Parts;
use crate::storage::verify::GIVE_UP_UPLOAD;
use crate::store::{Causes, Outcome};

/// The jobs that settle what a dead or cancelled one left unsettled. Nothing would follow them: without
/// them a video stays `processing`, or an upload `verifying`, for ever.
const LAST_WORDS: [&str; 2] = [FAIL_VIDEO, GIVE_UP_UPLOAD];

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

/// Which jobs a caller wants to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JobQuery {
    /// Only those in this state.
    pub state: Option<JobState>,
    /// Only those about this video.
    pub video: Option<VideoId>,
}

/// Jobs. Reached through `Platform::jobs`.
#[derive(Debug, Clone)]
pub struct Jobs {
    parts: Arc<Parts>,
}

impl Jobs {
    pub(crate) fn new(parts: Arc<Parts>) -> Self {
        Self { parts }
    }

    /// Enqueues a job of the embedding program's own; the worker needs a handler of its kind.
    ///
    /// # Errors
    /// [`JobError::Store`].
    pub async fn enqueue(&self, job: NewJob) -> Result<Job, JobError> {
        self.parts.store.enqueue(job, Causes::none()).await.map(Outcome::into_inner)
    }

    /// A job the actor may see.
    ///
    /// # Errors
    /// [`JobError::NotFound`].
    pub async fn read(&self, actor: &Actor, id: JobId) -> Result<JobView, JobError> {
        Ok(view(actor, self.visible(actor, id).await?))
    }

    /// Jobs the actor may see, newest first.
    ///
    /// # Errors
    /// [`JobError::BadCursor`].
    pub async fn list(
        &self,
        actor: &Actor,
        query: JobQuery,
        cursor: Option<&str>,
        limit: PageLimit,
    ) -> Result<Page<JobView>, JobError> {
        let owner = scope(actor);
        let binding = format!("jobs:{owner:?}:{:?}:{:?}", query.state, query.video);
        let cursors = &self.parts.cursors;
        let after = cursor.map(|cursor| cursors.open(&binding, cursor)).transpose().map_err(|_| JobError::BadCursor)?;
        let filter = JobFilter { owner, video: query.video, state: query.state, ..JobFilter::default() };
        let mut jobs = self.parts.store.jobs(&filter, after, limit.get() + 1).await?;
        let more = jobs.len() > usize::from(limit.get());
        jobs.truncate(limit.get().into());
        let next_cursor = jobs
            .last()
            .filter(|_| more)
            .map(|job| cursors.seal(&binding, &Position { sort: job.created_at.as_millis(), id: *job.id.as_bytes() }));
        Ok(Page { items: jobs.into_iter().map(|job| view(actor, job)).collect(), next_cursor })
    }

    /// Asks a job to stop: a queued one at once, a running one at its next heartbeat. The jobs that say
    /// what became of a video or an upload after its own job ended cannot be stopped.
    ///
    /// # Errors
    /// [`JobError::NotFound`], [`JobError::WrongState`] if it has ended or cannot be stopped.
    pub async fn cancel(
        &self,
        actor: &Actor,
        id: JobId,
        key: Option<IdempotencyKey>,
    ) -> Result<Outcome<JobView>, JobError> {
        let Job { kind, state, .. } = self.visible(actor, id).await?;
        if LAST_WORDS.contains(&kind.as_str()) {
            return Err(JobError::WrongState { state, command: "be cancelled" });
        }
        let causes = Causes::none().idempotent(self.parts.remember(key));
        Ok(self.parts.store.cancel(id, scope(actor), causes).await?.map(|job| view(actor, job)))
    }

    /// Queues a dead job again, with all its attempts.
    ///
    /// # Errors
    /// [`JobError::NotFound`], [`JobError::WrongState`] unless it is dead.
    pub async fn retry(
        &self,
        actor: &Actor,
        id: JobId,
        key: Option<IdempotencyKey>,
    ) -> Result<Outcome<JobView>, JobError> {
        let causes = Causes::none().idempotent(self.parts.remember(key));
        Ok(self.parts.store.retry(id, scope(actor), causes).await?.map(|job| view(actor, job)))
    }

    async fn visible(&self, actor: &Actor, id: JobId) -> Result<Job, JobError> {
        let job = self.parts.store.job(id).await?.filter(|job| scope(actor).is_none_or(|user| job.owner == Some(user)));
        job.ok_or(JobError::NotFound)
    }
}

/// Whose jobs the actor may see; `None` means everybody's.
fn scope(actor: &Actor) -> Option<UserId> {
    (actor.role != Role::Admin).then_some(actor.user)
}

fn view(actor: &Actor, job: Job) -> JobView {
    // The text of a failure that is not permanent is the server's own and may name its inner parts.
    let for_owner = job.death == Some(Death::Permanent);
    let last_error = job.last_error.filter(|_| for_owner || actor.role == Role::Admin);
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
        last_error,
        death: job.death,
        video_id: job.video,
        cancel_requested: job.cancel_requested,
        created_at: job.created_at,
        updated_at: job.updated_at,
        finished_at: job.finished_at,
    }
}
