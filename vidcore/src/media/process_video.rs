//! The job that turns a source into renditions: probe, plan, encode each, store, publish each.
//!
//! Idempotent: what an earlier attempt published is found ready and left alone. Files are made in a
//! private folder that goes away with the attempt.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use crate::catalog::CatalogError;
use crate::catalog::service::stale;
use crate::id::RenditionId;
use crate::jobs::worker::{JobContext, JobFailure, JobHandler};
use crate::media::Transcoder as _;
use crate::media::jobs::{ProcessPayload, failure, payload};
use crate::media::scratch::ScratchFolder;
use crate::media::{
    EncodeRequest, Encoded, MediaError, MediaInfo, NewObject, OutputFile, PlannedRendition, PublishRendition,
    Rendition, RenditionKind, RenditionPlan, RenditionStatus, Source,
};
use crate::platform::parts::Parts;
use crate::storage::objects::{ObjectError, WriteError};
use crate::store::Causes;

/// Share of the job's progress at which encoding begins: fetching and probing come before.
const ENCODE_BEGINS: f32 = 0.05;

/// Why a video fails of which no rendition was planned.
const NOTHING: &str = "Nothing that can be played can be made of this file.";

/// Runs [`PROCESS_VIDEO`](crate::media::jobs::PROCESS_VIDEO).
#[derive(Debug)]
pub(crate) struct ProcessVideo(pub(crate) Arc<Parts>);

/// One attempt.
struct Attempt<'a> {
    parts: &'a Parts,
    context: &'a JobContext,
    source: Source,
    /// Holds the fetched original and every output.
    folder: ScratchFolder,
}

#[async_trait]
impl JobHandler for ProcessVideo {
    async fn run(&self, context: JobContext) -> Result<Causes, JobFailure> {
        let payload: ProcessPayload = payload(&context)?;
        let started = self.0.store.start_processing(context.lease.fence(), payload.source, self.0.now()).await;
        let source = match started {
            Ok(source) => source,
            // Trashed, or another source took its place: there is nothing left to do.
            Err(CatalogError::NotFound) => return Ok(Causes::none()),
            Err(error) => return Err(failure(error)),
        };
        let folder = ScratchFolder::new(&self.0.settings.data_dir, &context)
            .await
            .map_err(|error| JobFailure::Retry(error.into()))?;
        let attempt = Attempt { parts: &self.0, context: &context, source, folder };
        let outcome = attempt.run().await;
        attempt.folder.remove().await;
        match outcome {
            // The video was trashed while its renditions were made.
            Err(JobFailure::Retry(error)) if is_not_found(&error) => Ok(Causes::none()),
            outcome => outcome.map(|()| Causes::none()),
        }
    }
}

fn is_not_found(error: &crate::store::BoxError) -> bool {
    matches!(error.downcast_ref::<CatalogError>(), Some(CatalogError::NotFound))
}

impl Attempt<'_> {
    async fn run(&self) -> Result<(), JobFailure> {
        let input = self.folder.path().join("source");
        self.parts.objects.materialize(&self.source.object_key, &input).await.map_err(object_failure)?;
        let info = self.parts.transcoder.probe(&input, &self.context.cancel).await.map_err(media_failure)?;
        let plans = self.parts.transcoder.plan(&info);
        let planned = plans.iter().map(|plan| self.planned(plan)).collect();
        let rows = self
            .parts
            .store
            .plan_processing(self.context.lease.fence(), self.source.id, info.clone(), planned, self.parts.now())
            .await
            .map_err(failure)?;
        self.context.progress(ENCODE_BEGINS);
        self.poster(&input, &info).await?;
        self.encode_all(&input, &info, &plans, &rows).await
    }

    fn planned(&self, plan: &RenditionPlan) -> PlannedRendition {
        PlannedRendition {
            id: RenditionId::new(self.parts.now(), &*self.parts.entropy),
            name: plan.name.clone(),
            kind: plan.kind,
            width: plan.width,
            height: plan.height,
        }
    }

    /// Makes what is not ready yet. One rendition that cannot be made does not keep the others back;
    /// the attempt fails if any could not, and succeeds for good if at least one is ready and the
    /// others are hopeless.
    async fn encode_all(
        &self,
        input: &Path,
        info: &MediaInfo,
        plans: &[RenditionPlan],
        rows: &[Rendition],
    ) -> Result<(), JobFailure> {
        let mut ready = rows.iter().any(|row| row.status == RenditionStatus::Ready);
        let mut hopeless = None;
        let mut retryable = None;
        for (index, plan) in plans.iter().enumerate() {
            let Some(row) = rows.iter().find(|row| row.name == plan.name && row.status != RenditionStatus::Ready)
            else {
                continue;
            };
            let step = Step { index, of: plans.len() };
            match self.rendition(input, info, plan, row, step).await {
                Ok(()) => ready = true,
                Err(end @ (JobFailure::Fenced | JobFailure::Cancelled)) => return Err(end),
                Err(JobFailure::Permanent(reason)) => {
                    self.give_up(row, &reason).await?;
                    hopeless = Some(reason);
                }
                Err(failure) => {
                    self.give_up(row, "This rendition could not be made.").await?;
                    retryable = Some(failure);
                }
            }
        }
        match (retryable, hopeless) {
            (Some(failure), _) => Err(failure),
            // A job that is done leaves a video that is played: nothing else would move it on.
            (None, reason) if !ready => Err(JobFailure::Permanent(reason.unwrap_or_else(|| NOTHING.to_owned()))),
            _ => Ok(()),
        }
    }

    async fn give_up(&self, row: &Rendition, reason: &str) -> Result<(), JobFailure> {
        let fence = self.context.lease.fence();
        self.parts.store.fail_rendition(fence, row.id, reason.to_owned()).await.map_err(failure)
    }

    async fn rendition(
        &self,
        input: &Path,
        info: &MediaInfo,
        plan: &RenditionPlan,
        row: &Rendition,
        step: Step,
    ) -> Result<(), JobFailure> {
        let fence = self.context.lease.fence();
        let prefix = match plan.kind {
            // The original itself is published: it has no prefix of its own.
            RenditionKind::File => self.source.object_key.clone(),
            RenditionKind::Hls => format!("renditions/{}/{}/{}", self.source.video, fence.token, plan.name),
        };
        self.parts.store.begin_rendition(fence, row.id, prefix.clone(), self.parts.now()).await.map_err(failure)?;
        let output = self.folder.make(&plan.name).await.map_err(|error| JobFailure::Retry(error.into()))?;
        let request = EncodeRequest {
            input: input.to_owned(),
            info: info.clone(),
            output: output.clone(),
            plan: plan.clone(),
            progress: self.progress(step),
            cancel: self.context.cancel.clone(),
        };
        let encoded = self.parts.transcoder.encode(request).await.map_err(media_failure)?;
        let objects = self.store_files(&output, &prefix, &encoded.files).await?;
        self.publish(row, encoded, objects).await
    }

    fn progress(&self, step: Step) -> crate::media::Progress {
        let context = self.context.clone();
        Arc::new(move |share| {
            crate::failpoints::hit("mid-encode");
            let done = (step.index as f32 + share.clamp(0.0, 1.0)) / step.of.max(1) as f32;
            context.progress(ENCODE_BEGINS + (1.0 - ENCODE_BEGINS) * done);
        })
    }

    async fn publish(&self, row: &Rendition, encoded: Encoded, objects: Vec<NewObject>) -> Result<(), JobFailure> {
        let command = PublishRendition {
            fence: self.context.lease.fence(),
            rendition: row.id,
            bandwidth: encoded.bandwidth,
            codecs: encoded.codecs,
            objects,
            now: self.parts.now(),
        };
        crate::failpoints::hit("before-publish");
        self.parts.store.publish_rendition(command, self.causes()).await.map_err(failure)?;
        crate::failpoints::hit("published-before-done");
        Ok(())
    }

    /// A poster is worth having, not worth failing for: only the end of the attempt ends it.
    async fn poster(&self, input: &Path, info: &MediaInfo) -> Result<(), JobFailure> {
        let output = self.folder.make("poster").await.map_err(|error| JobFailure::Retry(error.into()))?;
        let made = self.parts.transcoder.poster(input, info, &output, &self.context.cancel).await;
        let file = match made {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(()),
            Err(MediaError::Cancelled) => return Err(JobFailure::Cancelled),
            Err(error) => {
                tracing::warn!(error = %error, "no poster could be made");
                return Ok(());
            }
        };
        let fence = self.context.lease.fence();
        let prefix = format!("renditions/{}/{}/poster", self.source.video, fence.token);
        let (store, video, now) = (&self.parts.store, self.source.video, self.parts.now());
        store.begin_prefix(fence, video, prefix.clone(), now).await.map_err(failure)?;
        for object in self.store_files(&output, &prefix, &[file]).await? {
            store.publish_poster(fence, self.source.id, object, now, self.causes()).await.map_err(failure)?;
        }
        Ok(())
    }

    async fn store_files(
        &self,
        folder: &Path,
        prefix: &str,
        files: &[OutputFile],
    ) -> Result<Vec<NewObject>, JobFailure> {
        let mut objects = Vec::with_capacity(files.len());
        for file in files {
            if self.context.cancel.is_cancelled() {
                return Err(JobFailure::Cancelled);
            }
            let key = format!("{prefix}/{}", file.name);
            crate::failpoints::hit("before-put");
            let written = self.parts.objects.put_file(&key, &folder.join(&file.name)).await.map_err(write_failure)?;
            crate::failpoints::hit("after-put");
            objects.push(NewObject {
                key,
                size_bytes: written.size_bytes,
                sha256: written.sha256,
                content_type: file.content_type.to_owned(),
            });
        }
        Ok(objects)
    }

    fn causes(&self) -> Causes {
        stale(self.source.video).into_iter().fold(Causes::none(), Causes::change)
    }
}

/// Which of the renditions is being made.
#[derive(Clone, Copy)]
struct Step {
    index: usize,
    of: usize,
}

fn media_failure(error: MediaError) -> JobFailure {
    match error {
        MediaError::Unacceptable { reason } => JobFailure::Permanent(reason),
        MediaError::Cancelled => JobFailure::Cancelled,
        error => JobFailure::Retry(error.into()),
    }
}

fn object_failure(error: ObjectError) -> JobFailure {
    match error {
        ObjectError::NotFound => JobFailure::Permanent("The stored file is missing.".to_owned()),
        error => JobFailure::Retry(error.into()),
    }
}

fn write_failure(error: WriteError) -> JobFailure {
    JobFailure::Retry(error.into())
}
