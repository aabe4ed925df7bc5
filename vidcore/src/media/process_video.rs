//! The job that looks at a source: probe, plan renditions as rows, and one job for each thing that is missing.
//!
//! Idempotent: what an earlier run published is found ready and left alone, what a live job makes already is
//! not given to a second one.

use std::sync::Arc;

use async_trait::async_trait;

use crate::catalog::CatalogError;
use crate::id::RenditionId;
use crate::jobs::worker::{JobContext, JobFailure, JobHandler};
use crate::media::Transcoder as _;
use crate::media::attempt::{Attempt, media_failure};
use crate::media::jobs::{Missing, SourcePayload, failure, fan_out, payload};
use crate::media::{PlannedRendition, Rendition, RenditionPlan, RenditionStatus, SourceFacts};
use crate::platform::parts::Parts;
use crate::store::Causes;

/// Why a video fails of which no rendition was planned.
const NOTHING: &str = "Nothing that can be played can be made of this file.";

/// Runs [`PROCESS_VIDEO`](crate::media::jobs::PROCESS_VIDEO).
#[derive(Debug)]
pub(crate) struct ProcessVideo(pub(crate) Arc<Parts>);

#[async_trait]
impl JobHandler for ProcessVideo {
    async fn run(&self, context: JobContext) -> Result<Causes, JobFailure> {
        let payload: SourcePayload = payload(&context)?;
        let started = self.0.store.start_processing(context.lease.fence(), payload.source, self.0.now()).await;
        let source = match started {
            Ok(source) => source,
            // Trashed, or another source took its place: there is nothing left to do.
            Err(CatalogError::NotFound) => return Ok(Causes::none()),
            Err(error) => return Err(failure(error)),
        };
        let attempt = Attempt::begin(&self.0, &context, source).await?;
        let planned = plan(&attempt).await;
        attempt.end().await;
        planned
    }
}

async fn plan(attempt: &Attempt<'_>) -> Result<Causes, JobFailure> {
    let Attempt { parts, context, source, .. } = attempt;
    let input = attempt.fetch().await?;
    let info = parts.transcoder.probe(&input, &context.cancel).await.map_err(media_failure)?;
    let plans = parts.transcoder.plan(&info);
    let planned = plans.iter().map(|plan| row(parts, plan)).collect();
    let rows = match parts.store.plan_processing(context.lease.fence(), source.id, info, planned, parts.now()).await {
        Ok(rows) => rows,
        // Trashed or replaced while it was probed.
        Err(CatalogError::NotFound) => return Ok(Causes::none()),
        Err(error) => return Err(failure(error)),
    };
    let facts = parts.store.source_facts(source.id).await.map_err(|error| JobFailure::Retry(error.into()))?;
    let missing = missing(&plans, &rows, &facts.unwrap_or_default(), parts.transcoder.makes_pictures());
    let is_playable = rows.iter().any(|row| row.status == RenditionStatus::Ready);
    if missing.renditions.is_empty() && !is_playable {
        return Err(JobFailure::Permanent(NOTHING.to_owned()));
    }
    Ok(fan_out(parts, source, context.lease.job.owner, &missing))
}

fn row(parts: &Parts, plan: &RenditionPlan) -> PlannedRendition {
    PlannedRendition {
        id: RenditionId::new(parts.now(), &*parts.entropy),
        name: plan.name.clone(),
        kind: plan.kind,
        width: plan.width,
        height: plan.height,
    }
}

/// Of what this transcoder makes. Rows of another one's plan are left to the last word.
fn missing<'a>(
    plans: &[RenditionPlan],
    rows: &'a [Rendition],
    facts: &SourceFacts,
    makes_pictures: bool,
) -> Missing<'a> {
    let unmade =
        |plan: &RenditionPlan| rows.iter().find(|row| row.name == plan.name && row.status != RenditionStatus::Ready);
    Missing {
        // Plans come best first.
        renditions: plans.iter().rev().filter_map(unmade).collect(),
        poster: makes_pictures && facts.poster_key.is_none(),
        storyboard: makes_pictures && facts.storyboard_key.is_none(),
    }
}
