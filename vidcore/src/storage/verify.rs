//! The job that makes received bytes a source: pin, verify, commit.
//!
//! Pinning comes first: after it no client has a way to the bytes, so that what was verified is what
//! is kept. Every step finds what an earlier attempt did, so a crash anywhere finishes by itself.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::catalog::service::stale;
use crate::id::{SourceId, UploadId};
use crate::jobs::worker::{JobContext, JobFailure, JobHandler};
use crate::media::jobs::{payload, process_job};
use crate::media::{MediaError, MediaInfo, NewObject, Source};
use crate::platform::parts::Parts;
use crate::storage::objects::ObjectError;
use crate::storage::service::staging_prefix;
use crate::storage::{CommitSource, Upload, UploadError, UploadStatus};
use crate::store::Causes;

/// Checks a received upload and makes it the video's source.
pub const VERIFY_UPLOAD: &str = "verify_upload";

/// Rejects an upload that could not be checked.
pub const GIVE_UP_UPLOAD: &str = "give_up_upload";

/// What both jobs need.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct VerifyPayload {
    pub(crate) upload: UploadId,
}

/// Runs [`VERIFY_UPLOAD`].
#[derive(Debug)]
pub(crate) struct VerifyUpload(pub(crate) Arc<Parts>);

/// Runs [`GIVE_UP_UPLOAD`].
#[derive(Debug)]
pub(crate) struct GiveUpUpload(pub(crate) Arc<Parts>);

#[async_trait]
impl JobHandler for VerifyUpload {
    async fn run(&self, context: JobContext) -> Result<(), JobFailure> {
        let VerifyPayload { upload } = payload(&context)?;
        let Some(upload) = self.0.store.upload(upload).await.map_err(failure)? else {
            return Ok(());
        };
        // An earlier attempt got through and died before it could say so.
        if upload.status != UploadStatus::Verifying {
            return Ok(());
        }
        let pinned = pin(&self.0, &upload).await?;
        match check(&self.0, &upload, &pinned, &context).await? {
            Ok(info) => commit(&self.0, &context, &upload, pinned, &info).await,
            Err(reason) => reject(&self.0, &context, upload.id, &pinned, reason).await,
        }
    }
}

#[async_trait]
impl JobHandler for GiveUpUpload {
    async fn run(&self, context: JobContext) -> Result<(), JobFailure> {
        let VerifyPayload { upload } = payload(&context)?;
        let Some(upload) = self.0.store.upload(upload).await.map_err(failure)? else {
            return Ok(());
        };
        let reason = "The server could not check this file. Please upload it again.".to_owned();
        reject(&self.0, &context, upload.id, &original_key(&upload), reason).await
    }
}

fn original_key(upload: &Upload) -> String {
    format!("originals/{}/{}", upload.video, upload.id)
}

/// Moves the staged object to a key no client ever had a URL for.
async fn pin(parts: &Parts, upload: &Upload) -> Result<String, JobFailure> {
    let pinned = original_key(upload);
    let staged = upload.staged_key.as_deref().unwrap_or_default();
    match parts.objects.rename(staged, &pinned).await {
        Ok(()) => Ok(pinned),
        // Pinned by an earlier attempt, if it is there.
        Err(ObjectError::NotFound) => match parts.objects.size(&pinned).await {
            Ok(Some(_)) => Ok(pinned),
            Ok(None) => Err(JobFailure::Permanent("The received bytes are missing.".to_owned())),
            Err(error) => Err(JobFailure::Retry(error.into())),
        },
        Err(error) => Err(JobFailure::Retry(error.into())),
    }
}

/// Size, hash and container of what was pinned; the inner error is the reason to reject it.
async fn check(
    parts: &Parts,
    upload: &Upload,
    pinned: &str,
    context: &JobContext,
) -> Result<Result<MediaInfo, String>, JobFailure> {
    let measured = parts.objects.measure(pinned).await.map_err(|error| JobFailure::Retry(error.into()))?;
    if measured.size_bytes != upload.size_bytes || Some(measured.sha256) != upload.received_sha256 {
        return Ok(Err("The stored bytes differ from those received. Please upload the file again.".to_owned()));
    }
    let folder = parts.settings.data_dir.join("scratch").join(context.lease.token.to_string());
    let probed = probe(parts, pinned, &folder, context).await;
    if let Err(error) = tokio::fs::remove_dir_all(&folder).await {
        tracing::warn!(%error, "a scratch folder could not be removed");
    }
    match probed {
        Ok(info) => Ok(Ok(info)),
        Err(MediaError::Unacceptable { reason }) => Ok(Err(reason)),
        Err(MediaError::Cancelled) => Err(JobFailure::Cancelled),
        Err(error) => Err(JobFailure::Retry(error.into())),
    }
}

async fn probe(
    parts: &Parts,
    pinned: &str,
    folder: &std::path::Path,
    context: &JobContext,
) -> Result<MediaInfo, MediaError> {
    let failed = |message: &str, source: crate::store::BoxError| MediaError::Failed {
        message: message.to_owned(),
        source: Some(source),
    };
    let file = folder.join("source");
    tokio::fs::create_dir_all(folder).await.map_err(|error| failed("no scratch folder", error.into()))?;
    parts.objects.materialize(pinned, &file).await.map_err(|error| failed("fetching failed", error.into()))?;
    parts.transcoder.probe(&file, &context.cancel).await
}

async fn commit(
    parts: &Parts,
    context: &JobContext,
    upload: &Upload,
    pinned: String,
    info: &MediaInfo,
) -> Result<(), JobFailure> {
    let now = parts.now();
    let sha256 = upload.received_sha256.unwrap_or_default();
    let source = Source {
        id: SourceId::new(now, &*parts.entropy),
        video: upload.video,
        upload: upload.id,
        object_key: pinned.clone(),
        size_bytes: upload.size_bytes,
        sha256,
        content_type: info.content_type.clone(),
    };
    let object =
        NewObject { key: pinned, size_bytes: upload.size_bytes, sha256, content_type: info.content_type.clone() };
    let job = process_job(parts, &source, upload.user, None);
    let causes = stale(upload.video).into_iter().fold(Causes::none().job(job), Causes::change);
    let command = CommitSource { fence: context.lease.fence(), upload: upload.id, source, object, now };
    parts.store.commit_source(command, causes).await.map_err(failure)?;
    clear(parts, upload.id).await;
    Ok(())
}

async fn reject(
    parts: &Parts,
    context: &JobContext,
    upload: UploadId,
    pinned: &str,
    reason: String,
) -> Result<(), JobFailure> {
    parts.store.reject_upload(context.lease.fence(), upload, reason, parts.now()).await.map_err(failure)?;
    // The row says rejected first: an object left behind by a crash here is an orphan, which
    // collection removes; the other way round the row would name an object that is gone.
    if let Err(error) = parts.objects.delete(pinned).await {
        tracing::warn!(%error, upload.id = %upload, "a rejected object could not be deleted");
    }
    clear(parts, upload).await;
    Ok(())
}

async fn clear(parts: &Parts, upload: UploadId) {
    if let Err(error) = parts.objects.delete_under(&staging_prefix(upload)).await {
        tracing::warn!(%error, upload.id = %upload, "staged bytes could not be deleted");
    }
}

fn failure(error: UploadError) -> JobFailure {
    match error {
        UploadError::Fenced => JobFailure::Fenced,
        error => JobFailure::Retry(error.into()),
    }
}
