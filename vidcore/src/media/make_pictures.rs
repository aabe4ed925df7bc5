//! The jobs that make a source's poster and its storyboard, once each. Both are worth having, neither is
//! worth failing a video for.

use std::sync::Arc;

use async_trait::async_trait;

use crate::jobs::worker::{JobContext, JobFailure, JobHandler};
use crate::media::attempt::{Attempt, media_failure, unless_gone};
use crate::media::jobs::{SourcePayload, failure, payload};
use crate::media::{MediaError, MediaInfo, OutputFile, Source, Transcoder as _};
use crate::platform::parts::Parts;
use crate::store::Causes;

/// Which picture is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Picture {
    /// By [`MAKE_POSTER`](crate::media::jobs::MAKE_POSTER).
    Poster,
    /// By [`MAKE_STORYBOARD`](crate::media::jobs::MAKE_STORYBOARD).
    Storyboard,
}

/// Runs the jobs that make pictures of one kind.
#[derive(Debug)]
pub(crate) struct MakePicture(pub(crate) Arc<Parts>, pub(crate) Picture);

#[async_trait]
impl JobHandler for MakePicture {
    async fn run(&self, context: JobContext) -> Result<Causes, JobFailure> {
        let payload: SourcePayload = payload(&context)?;
        let Some((source, info)) = self.wanted(&payload).await? else { return Ok(Causes::none()) };
        let attempt = Attempt::begin(&self.0, &context, source).await?;
        let outcome = unless_gone(&attempt, self.make(&attempt, &info).await).await;
        attempt.end().await;
        match outcome {
            Err(JobFailure::Permanent(reason)) => {
                tracing::warn!(reason, video.id = %payload.video, "{:?} of {} could not be made", self.1, payload.video);
                Ok(Causes::none())
            }
            outcome => outcome.map(|()| Causes::none()),
        }
    }
}

impl MakePicture {
    /// The source and what was found in it, unless it was replaced or has its picture.
    async fn wanted(&self, payload: &SourcePayload) -> Result<Option<(Source, MediaInfo)>, JobFailure> {
        let store = &self.0.store;
        let current = store.current_source(payload.video).await.map_err(|error| JobFailure::Retry(error.into()))?;
        let facts = store.source_facts(payload.source).await.map_err(|error| JobFailure::Retry(error.into()))?;
        let (Some(source), Some(facts)) = (current.filter(|source| source.id == payload.source), facts) else {
            return Ok(None);
        };
        let made = match self.1 {
            Picture::Poster => facts.poster_key,
            Picture::Storyboard => facts.storyboard_key,
        };
        Ok(facts.info.filter(|_| made.is_none()).map(|info| (source, info)))
    }

    async fn make(&self, attempt: &Attempt<'_>, info: &MediaInfo) -> Result<(), JobFailure> {
        let Attempt { parts, context, source, .. } = attempt;
        let name = match self.1 {
            Picture::Poster => "poster",
            Picture::Storyboard => "storyboard",
        };
        let (input, output) = (attempt.fetch().await?, attempt.output(name).await?);
        let made = match self.1 {
            Picture::Poster => {
                let made = parts.transcoder.poster(&input, info, &output, &context.cancel).await;
                made.map(|file| file.into_iter().collect())
            }
            Picture::Storyboard => parts.transcoder.storyboard(&input, info, &output, &context.cancel).await,
        };
        let files: Vec<OutputFile> = made.map_err(|error: MediaError| media_failure(error))?;
        if files.is_empty() {
            return Ok(());
        }
        let (fence, prefix, now) = (context.lease.fence(), attempt.prefix(name), parts.now());
        parts.store.begin_prefix(fence, source.video, prefix.clone(), now).await.map_err(failure)?;
        let mut objects = attempt.store_files(&output, &prefix, &files).await?;
        let (now, causes) = (parts.now(), attempt.causes());
        let published = match self.1 {
            Picture::Poster => parts.store.publish_poster(fence, source.id, objects.swap_remove(0), now, causes).await,
            Picture::Storyboard => parts.store.publish_storyboard(fence, source.id, objects, now, causes).await,
        };
        published.map_err(failure)
    }
}
