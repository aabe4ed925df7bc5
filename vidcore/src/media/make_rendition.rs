//! The job that makes one rendition: encode, store, publish. Whether it succeeds is nobody else's business:
//! its siblings have jobs of their own.

use std::sync::Arc;

use async_trait::async_trait;

use crate::catalog::CatalogError;
use crate::jobs::worker::{JobContext, JobFailure, JobHandler};
use crate::media::Transcoder as _;
use crate::media::attempt::{Attempt, media_failure, unless_gone};
use crate::media::jobs::{RenditionPayload, failure, payload};
use crate::media::{
    EncodeRequest, Encoded, MediaInfo, NewObject, Progress, PublishRendition, Rendition, RenditionKind, RenditionPlan,
    RenditionStatus,
};
use crate::platform::parts::Parts;
use crate::store::Causes;

/// Runs [`MAKE_RENDITION`](crate::media::jobs::MAKE_RENDITION).
#[derive(Debug)]
pub(crate) struct MakeRendition(pub(crate) Arc<Parts>);

#[async_trait]
impl JobHandler for MakeRendition {
    async fn run(&self, context: JobContext) -> Result<Causes, JobFailure> {
        let payload: RenditionPayload = payload(&context)?;
        // A replayed job may be the first to work on a video that had failed.
        let started = self.0.store.start_processing(context.lease.fence(), payload.source, self.0.now()).await;
        let source = match started {
            Ok(source) => source,
            // Trashed, or another source took its place: there is nothing left to do.
            Err(CatalogError::NotFound) => return Ok(Causes::none()),
            Err(error) => return Err(failure(error)),
        };
        let Some(row) = unmade(&self.0, &payload).await? else { return Ok(Causes::none()) };
        let attempt = Attempt::begin(&self.0, &context, source).await?;
        let outcome = unless_gone(&attempt, make(&attempt, &row).await).await;
        attempt.end().await;
        if let Err(JobFailure::Permanent(reason)) = &outcome {
            let fence = context.lease.fence();
            self.0.store.fail_rendition(fence, row.id, reason.clone()).await.map_err(failure)?;
        }
        outcome.map(|()| Causes::none())
    }
}

/// The rendition's row, unless an earlier attempt got through.
async fn unmade(parts: &Parts, payload: &RenditionPayload) -> Result<Option<Rendition>, JobFailure> {
    let rows = parts.store.renditions(payload.video).await.map_err(|error| JobFailure::Retry(error.into()))?;
    Ok(rows.into_iter().find(|row| row.id == payload.rendition && row.status != RenditionStatus::Ready))
}

async fn make(attempt: &Attempt<'_>, row: &Rendition) -> Result<(), JobFailure> {
    let Attempt { parts, context, source, .. } = attempt;
    let (info, plan) = planned(attempt, row).await?;
    let fence = context.lease.fence();
    let prefix = match row.kind {
        // The original itself is published: it has no prefix of its own.
        RenditionKind::File => source.object_key.clone(),
        RenditionKind::Hls => attempt.prefix(&row.name),
    };
    parts.store.begin_rendition(fence, row.id, prefix.clone(), parts.now()).await.map_err(failure)?;
    let (input, output) = (attempt.fetch().await?, attempt.output(&row.name).await?);
    let request = EncodeRequest {
        input,
        info,
        output: output.clone(),
        plan,
        progress: progress(context),
        cancel: context.cancel.clone(),
    };
    let encoded = parts.transcoder.encode(request).await.map_err(media_failure)?;
    let objects = attempt.store_files(&output, &prefix, &encoded.files).await?;
    publish(attempt, row, encoded, objects).await
}

/// What the row stands for: the plan is a pure function of what was found in the source.
async fn planned(attempt: &Attempt<'_>, row: &Rendition) -> Result<(MediaInfo, RenditionPlan), JobFailure> {
    let Attempt { parts, source, .. } = attempt;
    let facts = parts.store.source_facts(source.id).await.map_err(|error| JobFailure::Retry(error.into()))?;
    let info =
        facts.and_then(|facts| facts.info).ok_or_else(|| JobFailure::Retry("the source is not probed".into()))?;
    // The search for a transcoder may still run where another process planned this.
    let transcoder = parts.transcoder.known().await.transcoder;
    let plan = transcoder.plan(&info).into_iter().find(|plan| plan.name == row.name && plan.kind == row.kind);
    // Another worker may have the transcoder that planned it.
    let plan = plan.ok_or_else(|| format!("the transcoder `{}` makes no {}", transcoder.name(), row.name));
    Ok((info, plan.map_err(|error| JobFailure::Retry(error.into()))?))
}

fn progress(context: &JobContext) -> Progress {
    let context = context.clone();
    Arc::new(move |share| {
        crate::failpoints::hit("mid-encode");
        context.progress(share);
    })
}

async fn publish(
    attempt: &Attempt<'_>,
    row: &Rendition,
    encoded: Encoded,
    objects: Vec<NewObject>,
) -> Result<(), JobFailure> {
    let parts = attempt.parts;
    let command = PublishRendition {
        fence: attempt.context.lease.fence(),
        rendition: row.id,
        bandwidth: encoded.bandwidth,
        codecs: encoded.codecs,
        objects,
        now: parts.now(),
    };
    crate::failpoints::hit("before-publish");
    parts.store.publish_rendition(command, attempt.causes()).await.map_err(failure)?;
    crate::failpoints::hit("published-before-done");
    Ok(())
}
