//! Jobs as people see and steer them: the owner of a video its jobs, an admin or the operator all.

use std::sync::Arc;

use crate::auth::{Actor, Role};
use crate::events::NewChange;
use crate::id::{JobId, UserId, VideoId};
use crate::idempotency::IdempotencyKey;
use crate::jobs::input::{check_new, is_name};
use crate::jobs::view::{Detail, JobView, JobWithHistory};
use crate::jobs::{JOB_RESUMES, Job, JobError, JobFilter, JobState, NewJob, QueueName, QueueStats, Replay};
use crate::media::jobs::{FAIL_VIDEO, SETTLE_VIDEO};
use crate::page::{Page, PageLimit, Position};
use crate::platform::parts::Parts;
use crate::storage::verify::GIVE_UP_UPLOAD;
use crate::store::{Causes, Outcome};

/// The jobs that settle what a dead or cancelled one left unsettled. Nothing would follow them: without
/// them a video stays `processing`, or an upload `verifying`, for ever.
const LAST_WORDS: [&str; 3] = [FAIL_VIDEO, SETTLE_VIDEO, GIVE_UP_UPLOAD];

/// The most jobs one bulk replay queues: they are one transaction, and others wait for it.
const REPLAY_LIMIT: u16 = 500;

/// Who looks at jobs and steers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobActor {
    /// Somebody who has signed in: an admin sees all jobs, everybody else those about their own videos.
    User(Actor),
    /// Whoever runs the program and holds its data folder: may do what an admin may, and has no account.
    Operator,
}

impl From<&Actor> for JobActor {
    fn from(actor: &Actor) -> Self {
        Self::User(*actor)
    }
}

impl JobActor {
    /// Whose jobs the actor may see; `None` means everybody's.
    fn scope(self) -> Option<UserId> {
        match self {
            Self::User(actor) => (actor.role != Role::Admin).then_some(actor.user),
            Self::Operator => None,
        }
    }

    fn detail(self) -> Detail {
        if self.scope().is_none() { Detail::Operator } else { Detail::Owner }
    }

    /// Queues belong to nobody's videos.
    fn demand_all(self) -> Result<(), JobError> {
        if self.scope().is_none() { Ok(()) } else { Err(JobError::Forbidden) }
    }
}

/// Which jobs a caller means, among those the caller may see.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobQuery {
    /// Only those in this state.
    pub state: Option<JobState>,
    /// Only those of this queue.
    pub queue: Option<QueueName>,
    /// Only those of this kind.
    pub kind: Option<String>,
    /// Only those about this video.
    pub video: Option<VideoId>,
}

impl JobQuery {
    fn within(self, owner: Option<UserId>) -> JobFilter {
        let Self { state, queue, kind, video } = self;
        JobFilter { queue, kind, owner, video, state }
    }
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

    /// Enqueues a job of the embedding program's own; the worker needs a handler of its kind. If its unique
    /// key has a live job, that one is returned instead.
    ///
    /// Queue and kind are [names](is_name), the payload is at most 64 KiB of JSON, the priority −10 to 10,
    /// `max_attempts` at least 1, a unique key 1 to 200 characters; kind, payload and attempts of the
    /// follow-up likewise. It cannot join a group: what a handler causes writes a group with its members.
    ///
    /// # Errors
    /// [`JobError::Invalid`], [`JobError::Store`].
    pub async fn enqueue(&self, job: NewJob) -> Result<Job, JobError> {
        self.parts.store.enqueue(check_new(job)?, Causes::none()).await.map(Outcome::into_inner)
    }

    /// A job the actor may see, with its latest claims.
    ///
    /// # Errors
    /// [`JobError::NotFound`].
    pub async fn read(&self, by: impl Into<JobActor>, id: JobId) -> Result<JobWithHistory, JobError> {
        let by = by.into();
        let job = self.visible(by, id).await?;
        let attempts = self.parts.store.attempts(id).await?;
        Ok(by.detail().with_history(job, attempts))
    }

    /// Jobs the actor may see, newest first.
    ///
    /// # Errors
    /// [`JobError::BadCursor`] if the cursor is not of this very query.
    pub async fn list(
        &self,
        by: impl Into<JobActor>,
        query: JobQuery,
        cursor: Option<&str>,
        limit: PageLimit,
    ) -> Result<Page<JobView>, JobError> {
        let by = by.into();
        let filter = query.within(by.scope());
        let JobFilter { queue, kind, owner, video, state } = &filter;
        let binding = format!("jobs:{owner:?}:{state:?}:{video:?}:{queue:?}:{kind:?}");
        let cursors = &self.parts.cursors;
        let after = cursor.map(|cursor| cursors.open(&binding, cursor)).transpose().map_err(|_| JobError::BadCursor)?;
        let mut jobs = self.parts.store.jobs(&filter, after, limit.get() + 1).await?;
        let more = jobs.len() > usize::from(limit.get());
        jobs.truncate(limit.get().into());
        let next_cursor = jobs
            .last()
            .filter(|_| more)
            .map(|job| cursors.seal(&binding, &Position { sort: job.created_at.as_millis(), id: *job.id.as_bytes() }));
        Ok(Page { items: jobs.into_iter().map(|job| by.detail().job(job)).collect(), next_cursor })
    }

    /// Asks a job to stop: a queued one ends at once; the worker of a running one is told at once, and
    /// sees it at its next heartbeat at the latest. The jobs that say what became of a video or an upload
    /// after its own job ended cannot be stopped.
    ///
    /// # Errors
    /// [`JobError::NotFound`], [`JobError::WrongState`] if it has ended or cannot be stopped.
    pub async fn cancel(
        &self,
        by: impl Into<JobActor>,
        id: JobId,
        key: Option<IdempotencyKey>,
    ) -> Result<Outcome<JobView>, JobError> {
        let by = by.into();
        let Job { kind, state, .. } = self.visible(by, id).await?;
        if LAST_WORDS.contains(&kind.as_str()) {
            return Err(JobError::WrongState { state, command: "be cancelled" });
        }
        let causes = Causes::none().idempotent(self.parts.remember(key));
        Ok(self.parts.store.cancel(id, by.scope(), causes).await?.map(|job| by.detail().job(job)))
    }

    /// Queues a dead job again, with all its attempts.
    ///
    /// # Errors
    /// [`JobError::NotFound`], [`JobError::WrongState`] unless it is dead.
    pub async fn retry(
        &self,
        by: impl Into<JobActor>,
        id: JobId,
        key: Option<IdempotencyKey>,
    ) -> Result<Outcome<JobView>, JobError> {
        let by = by.into();
        let causes = Causes::none().idempotent(self.parts.remember(key));
        Ok(self.parts.store.retry(id, by.scope(), causes).await?.map(|job| by.detail().job(job)))
    }

    /// Queues up to 500 of the dead jobs that the query names and the actor may see again, those that died
    /// first first, each with all its attempts; the state in the query is not looked at. As long as the
    /// answer says that there are more, another call goes on.
    ///
    /// # Errors
    /// [`JobError::Store`].
    pub async fn replay(
        &self,
        by: impl Into<JobActor>,
        query: JobQuery,
        key: Option<IdempotencyKey>,
    ) -> Result<Outcome<Replay>, JobError> {
        let filter = query.within(by.into().scope());
        let causes = Causes::none().idempotent(self.parts.remember(key));
        self.parts.store.replay(&filter, REPLAY_LIMIT, causes).await
    }

    /// How full each queue is that has jobs or is paused, by name. For admins and the operator.
    ///
    /// # Errors
    /// [`JobError::Forbidden`].
    pub async fn queues(&self, by: impl Into<JobActor>) -> Result<Vec<QueueStats>, JobError> {
        by.into().demand_all()?;
        self.parts.store.queues().await
    }

    /// Pauses a queue, so that nothing of it is claimed while what runs goes on, or lets it go on; returns the
    /// queue as it is now. A queue may be paused before it has its first job. For admins and the operator.
    ///
    /// # Errors
    /// [`JobError::Forbidden`], [`JobError::NotFound`] if no queue can have this name.
    pub async fn set_paused(
        &self,
        by: impl Into<JobActor>,
        queue: &QueueName,
        paused: bool,
        key: Option<IdempotencyKey>,
    ) -> Result<Outcome<QueueStats>, JobError> {
        by.into().demand_all()?;
        if !is_name(queue.as_str()) {
            return Err(JobError::NotFound);
        }
        let mut causes = Causes::none().idempotent(self.parts.remember(key));
        if !paused {
            // Nothing is queued by this, so that no hint is given: workers wait for news of the queue.
            causes = causes.change(NewChange::new(JOB_RESUMES, queue.as_str()));
        }
        let outcome = self.parts.store.set_paused(queue, paused, causes).await?;
        let found = self.parts.store.queues().await?.into_iter().find(|stats| stats.queue == *queue);
        let stats = found.unwrap_or_else(|| QueueStats::empty(queue.clone()));
        tracing::info!(queue = %queue, paused, "queue {queue} is {} now", if paused { "paused" } else { "going on" });
        Ok(outcome.map(|()| stats))
    }

    async fn visible(&self, by: JobActor, id: JobId) -> Result<Job, JobError> {
        let scope = by.scope();
        let job = self.parts.store.job(id).await?.filter(|job| scope.is_none_or(|user| job.owner == Some(user)));
        job.ok_or(JobError::NotFound)
    }
}
