//! The jobs of this room: process a source, and say that it failed.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::catalog::CatalogError;
use crate::catalog::service::stale;
use crate::id::{JobId, SourceId, UserId, VideoId};
use crate::jobs::worker::{JobContext, JobFailure, JobHandler};
use crate::jobs::{Death, FollowUp, JobState, MEDIA_QUEUE, NewJob};
use crate::media::Source;
use crate::platform::parts::Parts;
use crate::store::Causes;

/// Makes the renditions of a source.
pub const PROCESS_VIDEO: &str = "process_video";

/// Moves a video whose processing died to `failed`.
pub const FAIL_VIDEO: &str = "fail_video";

/// How often the follow-up is tried: it only writes one row.
const FOLLOW_UP_ATTEMPTS: u16 = 50;

/// What [`PROCESS_VIDEO`] needs.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct ProcessPayload {
    pub(crate) video: VideoId,
    pub(crate) source: SourceId,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct FailPayload {
    video: VideoId,
    /// The job that died.
    job: JobId,
}

/// The job that makes the renditions of `source`. At most one is live for each source.
pub(crate) fn process_job(parts: &Parts, source: &Source, owner: UserId) -> NewJob {
    let now = parts.now();
    let id = JobId::new(now, &*parts.entropy);
    let payload = json!(ProcessPayload { video: source.video, source: source.id });
    NewJob {
        max_attempts: parts.settings.worker.max_attempts,
        unique_key: Some(format!("{PROCESS_VIDEO}:{}", source.id)),
        owner: Some(owner),
        video: Some(source.video),
        on_dead: Some(FollowUp {
            id: JobId::new(now, &*parts.entropy),
            kind: FAIL_VIDEO.to_owned(),
            payload: json!(FailPayload { video: source.video, job: id }),
            max_attempts: FOLLOW_UP_ATTEMPTS,
        }),
        ..NewJob::new(id, MEDIA_QUEUE, PROCESS_VIDEO, payload, now)
    }
}

/// Runs [`FAIL_VIDEO`].
#[derive(Debug)]
pub(crate) struct FailVideo(pub(crate) Arc<Parts>);

#[async_trait]
impl JobHandler for FailVideo {
    async fn run(&self, context: JobContext) -> Result<Causes, JobFailure> {
        let payload: FailPayload = payload(&context)?;
        let dead = self.0.store.job(payload.job).await.map_err(|error| JobFailure::Retry(error.into()))?;
        let reason = match dead {
            Some(job) if job.state == JobState::Cancelled => "Processing was cancelled.".to_owned(),
            // A permanent failure is worded for a person; anything else is the server's own trouble.
            Some(job) if job.death == Some(Death::Permanent) => job.last_error.unwrap_or_default(),
            _ => "The server could not process this video. The file is kept; processing can be tried again.".to_owned(),
        };
        let causes = stale(payload.video).into_iter().fold(Causes::none(), Causes::change);
        self.0
            .store
            .fail_video(context.lease.fence(), payload.video, reason, self.0.now(), causes)
            .await
            .map_err(failure)?;
        Ok(Causes::none())
    }
}

/// The payload of a job; one that does not parse can never be run.
pub(crate) fn payload<T: serde::de::DeserializeOwned>(context: &JobContext) -> Result<T, JobFailure> {
    serde_json::from_value(context.lease.job.payload.clone())
        .map_err(|error| JobFailure::Permanent(format!("the job's payload cannot be read: {error}")))
}

/// How an attempt ends when a command on its behalf was refused.
pub(crate) fn failure(error: CatalogError) -> JobFailure {
    match error {
        CatalogError::Fenced => JobFailure::Fenced,
        error => JobFailure::Retry(error.into()),
    }
}
