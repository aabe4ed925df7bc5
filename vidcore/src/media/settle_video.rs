//! The jobs with the last word: what became of a video of which nothing more is made.
//!
//! A video that is `processing` has a live job at every commit: the job that plans, then those that make,
//! then the one that settles, each written in the transaction that ends the one before.

use std::sync::Arc;

use async_trait::async_trait;

use crate::catalog::service::stale;
use crate::id::{RenditionId, VideoId};
use crate::jobs::worker::{JobContext, JobFailure, JobHandler};
use crate::jobs::{Death, Job, JobFilter, JobState};
use crate::media::jobs::{FailPayload, MAKE_RENDITION, RenditionPayload, SettlePayload, failure, payload};
use crate::media::{Rendition, RenditionStatus, SettleVideo};
use crate::platform::parts::Parts;
use crate::store::Causes;

/// Why a video or a rendition is not made: somebody stopped it.
const CANCELLED: &str = "Processing was cancelled.";

/// Why a video fails where no better reason is known: the server's own trouble.
const TROUBLE: &str = "The server could not process this video. The file is kept; processing can be tried again.";

/// The same of one rendition.
const UNMADE: &str = "The server could not make this rendition; processing can be tried again.";

/// How many of a video's latest jobs are looked at for reasons.
const LOOKED_AT: u16 = 100;

/// Runs [`SETTLE_VIDEO`](crate::media::jobs::SETTLE_VIDEO).
#[derive(Debug)]
pub(crate) struct Settle(pub(crate) Arc<Parts>);

/// Runs [`FAIL_VIDEO`](crate::media::jobs::FAIL_VIDEO).
#[derive(Debug)]
pub(crate) struct FailVideo(pub(crate) Arc<Parts>);

#[async_trait]
impl JobHandler for Settle {
    async fn run(&self, context: JobContext) -> Result<Causes, JobFailure> {
        let SettlePayload { video } = payload(&context)?;
        let rows = self.0.store.renditions(video).await.map_err(|error| JobFailure::Retry(error.into()))?;
        let filter = JobFilter { video: Some(video), kind: Some(MAKE_RENDITION.to_owned()), ..JobFilter::default() };
        let jobs = self.0.store.jobs(&filter, None, LOOKED_AT).await;
        let jobs = jobs.map_err(|error| JobFailure::Retry(error.into()))?;
        let (reason, renditions) = reasons(&rows, &jobs);
        settle(&self.0, &context, video, reason, renditions).await
    }
}

#[async_trait]
impl JobHandler for FailVideo {
    async fn run(&self, context: JobContext) -> Result<Causes, JobFailure> {
        let payload: FailPayload = payload(&context)?;
        let dead = self.0.store.job(payload.job).await.map_err(|error| JobFailure::Retry(error.into()))?;
        let reason = dead.as_ref().and_then(reason_of).unwrap_or_else(|| TROUBLE.to_owned());
        settle(&self.0, &context, payload.video, reason, Vec::new()).await
    }
}

async fn settle(
    parts: &Parts,
    context: &JobContext,
    video: VideoId,
    reason: String,
    renditions: Vec<(RenditionId, String)>,
) -> Result<Causes, JobFailure> {
    let causes = stale(video).into_iter().fold(Causes::none(), Causes::change);
    let command = SettleVideo { fence: context.lease.fence(), video, reason, renditions, now: parts.now() };
    parts.store.settle_video(command, causes).await.map_err(failure)?;
    Ok(Causes::none())
}

/// Why the job's work was not done, if it says so to a person.
fn reason_of(job: &Job) -> Option<String> {
    match (job.state, job.death) {
        (JobState::Cancelled, _) => Some(CANCELLED.to_owned()),
        // A permanent failure is worded for a person; anything else is the server's own trouble.
        (_, Some(Death::Permanent)) => job.last_error.clone(),
        _ => None,
    }
}

/// Why each rendition was not made, and the one reason that is the video's: what is wrong with the file comes
/// before what somebody or the server did.
fn reasons(rows: &[Rendition], jobs: &[Job]) -> (String, Vec<(RenditionId, String)>) {
    let unmade = rows.iter().filter(|row| matches!(row.status, RenditionStatus::Planned | RenditionStatus::Encoding));
    let renditions: Vec<_> = unmade
        .map(|row| (row.id, job_of(row.id, jobs).and_then(reason_of).unwrap_or_else(|| UNMADE.to_owned())))
        .collect();
    let recorded =
        rows.iter().filter(|row| row.status == RenditionStatus::Failed).filter_map(|row| row.failure.clone());
    let all: Vec<String> = recorded.chain(renditions.iter().map(|(_, reason)| reason.clone())).collect();
    let of_the_file = all.iter().find(|reason| *reason != CANCELLED && *reason != UNMADE);
    let reason = of_the_file.or_else(|| all.iter().find(|reason| *reason == CANCELLED));
    (reason.cloned().unwrap_or_else(|| TROUBLE.to_owned()), renditions)
}

/// The rendition's live job or, where none is, its latest; they come newest first.
pub(crate) fn job_of(rendition: RenditionId, jobs: &[Job]) -> Option<&Job> {
    let makes_it = |job: &&Job| {
        let payload = serde_json::from_value::<RenditionPayload>(job.payload.clone());
        job.kind == MAKE_RENDITION && payload.is_ok_and(|payload| payload.rendition == rendition)
    };
    let mut its = jobs.iter().filter(makes_it).peekable();
    let latest = its.peek().copied();
    its.find(|job| !job.state.is_final()).or(latest)
}
