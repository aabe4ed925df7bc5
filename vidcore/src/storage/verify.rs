//! The job that makes received bytes a source: pin, verify, commit.
//!
//! Pinning comes first: after it no client has a way to the bytes, so that what was verified is what
//! is kept. Every step finds what an earlier attempt did, so a crash anywhere finishes by itself.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::catalog::service::stale;
use crate::id::{SourceId, UploadId, VideoId};
use crate::jobs::worker::{JobContext, JobFailure, JobHandler};
use crate::media::Transcoder as _;
use crate::media::jobs::{payload, process_job};
use crate::media::scratch::ScratchFolder;
use crate::media::{MediaError, MediaInfo, NewObject, Source};
use crate::platform::parts::Parts;
use crate::storage::multipart::{give_up_parts, join_parts, whole_key};
use crate::storage::objects::ObjectError;
use crate::storage::service::staging_prefix;
use crate::storage::{CommitSource, Objects, Segment, Upload, UploadError, UploadStatus};
use crate::store::Causes;

/// Checks a received upload and makes it the video's source.
pub(crate) const VERIFY_UPLOAD: &str = "verify_upload";

/// Rejects an upload that could not be checked.
pub(crate) const GIVE_UP_UPLOAD: &str = "give_up_upload";

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
    async fn run(&self, context: JobContext) -> Result<Causes, JobFailure> {
        let VerifyPayload { upload } = payload(&context)?;
        let Some(upload) = self.0.store.upload(upload).await.map_err(failure)? else {
            return Ok(Causes::none());
        };
        // An earlier attempt got through and died before it could tidy up or say so.
        if upload.status != UploadStatus::Verifying {
            tidy(&self.0, &upload).await;
            return Ok(Causes::none());
        }
        let segments = self.0.store.upload_segments(upload.id).await.map_err(failure)?;
        let pinned = pin(&self.0, &upload, &segments).await?;
        match check(&self.0, &upload, &pinned, &context).await? {
            Ok(checked) => commit(&self.0, &context, &upload, pinned, checked).await?,
            Err(reason) => reject(&self.0, &context, upload, reason).await?,
        }
        clear_segments(&self.0, &segments).await;
        Ok(Causes::none())
    }
}

#[async_trait]
impl JobHandler for GiveUpUpload {
    async fn run(&self, context: JobContext) -> Result<Causes, JobFailure> {
        let VerifyPayload { upload } = payload(&context)?;
        let Some(upload) = self.0.store.upload(upload).await.map_err(failure)? else {
            return Ok(Causes::none());
        };
        // The attempt that died may have been through with its work: a committed source keeps its bytes.
        if upload.status != UploadStatus::Verifying {
            tidy(&self.0, &upload).await;
            return Ok(Causes::none());
        }
        let reason = "The server could not check this file. Please upload it again.".to_owned();
        reject(&self.0, &context, upload, reason).await?;
        Ok(Causes::none())
    }
}

/// An upload that is verified belongs to a video: parts never are.
fn video_of(upload: &Upload) -> Result<VideoId, JobFailure> {
    upload.video.ok_or_else(|| JobFailure::Permanent("The upload belongs to no video.".to_owned()))
}

fn original_key(upload: &Upload) -> Result<String, JobFailure> {
    Ok(format!("originals/{}/{}", video_of(upload)?, upload.id))
}

/// Brings the staged bytes to a key no client ever had a URL for.
async fn pin(parts: &Parts, upload: &Upload, segments: &[Segment]) -> Result<String, JobFailure> {
    let pinned = original_key(upload)?;
    crate::failpoints::hit("before-pin");
    if upload.multipart.is_some() {
        join_parts(&parts.objects, upload).await.map_err(|error| JobFailure::Retry(error.into()))?;
        crate::failpoints::hit("parts-joined");
    }
    let whole = upload.multipart.is_some().then(|| whole_key(upload.id));
    let moved = match (upload.staged_key.as_ref().or(whole.as_ref()), segments) {
        (Some(staged), _) => parts.objects.rename(staged, &pinned).await,
        (None, [only]) if upload.is_quiet => rename_only(&parts.objects, only, &pinned).await,
        // An original is nobody's to write to: where somebody may be at work still, it is a copy.
        (None, segments) => parts.objects.concatenate(segments, &pinned).await,
    };
    crate::failpoints::hit("after-pin");
    match moved {
        Ok(()) => Ok(pinned),
        // Pinned by an earlier attempt, if it is there.
        Err(ObjectError::NotFound) => match parts.objects.size(&pinned).await {
            Ok(Some(_)) => Ok(pinned),
            // A bucket may show what was joined a little later.
            Ok(None) if upload.multipart.is_some() => Err(JobFailure::Retry(ObjectError::NotFound.into())),
            Ok(None) => Err(JobFailure::Permanent("The received bytes are missing.".to_owned())),
            Err(error) => Err(JobFailure::Retry(error.into())),
        },
        Err(error) => Err(JobFailure::Retry(error.into())),
    }
}

/// A segment may have a tail that nobody acknowledged, or be short where objects are moving: both show by its size.
async fn rename_only(objects: &Objects, only: &Segment, pinned: &str) -> Result<(), ObjectError> {
    match objects.size(&only.key).await? {
        Some(size_bytes) if size_bytes != only.size_bytes => {
            objects.concatenate(std::slice::from_ref(only), pinned).await
        }
        _ => objects.rename(&only.key, pinned).await,
    }
}

/// What was found out about pinned bytes.
struct Checked {
    sha256: [u8; 32],
    info: MediaInfo,
}

/// Size, hash and container of what was pinned; the inner error is the reason to reject it.
async fn check(
    parts: &Parts,
    upload: &Upload,
    pinned: &str,
    context: &JobContext,
) -> Result<Result<Checked, String>, JobFailure> {
    let measured = parts.objects.measure(pinned).await.map_err(|error| JobFailure::Retry(error.into()))?;
    // Nobody saw the bytes of parts pass in their order: what they come to is known from here on.
    let is_same = upload.received_sha256.is_none_or(|received| received == measured.sha256);
    if measured.size_bytes != upload.size_bytes || !is_same {
        return Ok(Err("The stored bytes differ from those received. Please upload the file again.".to_owned()));
    }
    if upload.declared_sha256.is_some_and(|declared| declared != measured.sha256) {
        return Ok(Err("The file's SHA-256 is not the one that was declared.".to_owned()));
    }
    if upload.received_sha256.is_none() {
        parts.store.record_joined(context.lease.fence(), upload.id, measured.sha256).await.map_err(failure)?;
    }
    let folder =
        ScratchFolder::new(&parts.settings.data_dir, context).await.map_err(|error| JobFailure::Retry(error.into()))?;
    let probed = probe(parts, pinned, &folder, context).await;
    folder.remove().await;
    match probed {
        Ok(info) => Ok(Ok(Checked { sha256: measured.sha256, info })),
        Err(MediaError::Unacceptable { reason }) => Ok(Err(reason)),
        Err(MediaError::Cancelled) => Err(JobFailure::Cancelled),
        Err(error) => Err(JobFailure::Retry(error.into())),
    }
}

async fn probe(
    parts: &Parts,
    pinned: &str,
    folder: &ScratchFolder,
    context: &JobContext,
) -> Result<MediaInfo, MediaError> {
    let file = folder.path().join("source");
    parts
        .objects
        .materialize(pinned, &file)
        .await
        .map_err(|error| MediaError::Failed { message: "fetching failed".to_owned(), source: Some(error.into()) })?;
    parts.transcoder.probe(&file, &context.cancel).await
}

async fn commit(
    parts: &Parts,
    context: &JobContext,
    upload: &Upload,
    pinned: String,
    Checked { sha256, info }: Checked,
) -> Result<(), JobFailure> {
    let (now, video) = (parts.now(), video_of(upload)?);
    let source = Source {
        id: SourceId::new(now, &*parts.entropy),
        video,
        upload: upload.id,
        object_key: pinned.clone(),
        size_bytes: upload.size_bytes,
        sha256,
        content_type: info.content_type.clone(),
    };
    let object =
        NewObject { key: pinned, size_bytes: upload.size_bytes, sha256, content_type: info.content_type.clone() };
    let job = process_job(parts, &source, upload.user);
    let causes = stale(video).into_iter().fold(Causes::none().job(job), Causes::change);
    let command = CommitSource { fence: context.lease.fence(), upload: upload.id, source, object, now };
    crate::failpoints::hit("verified-before-commit");
    parts.store.commit_source(command, causes).await.map_err(failure)?;
    clear_staging(parts, upload.id).await;
    Ok(())
}

async fn reject(parts: &Parts, context: &JobContext, upload: Upload, reason: String) -> Result<(), JobFailure> {
    parts.store.reject_upload(context.lease.fence(), upload.id, reason, parts.now()).await.map_err(failure)?;
    tidy(parts, &Upload { status: UploadStatus::Rejected, ..upload }).await;
    Ok(())
}

/// Deletes what an upload that is no longer verified has no use for. Its row comes first: a crash in
/// between leaves an object without a row, never a row without its object, and the job that runs again
/// comes by here.
async fn tidy(parts: &Parts, upload: &Upload) {
    if upload.status == UploadStatus::Rejected
        && let Ok(key) = original_key(upload)
        && let Err(error) = parts.objects.delete(&key).await
    {
        tracing::warn!(%error, upload.id = %upload.id, "a rejected object could not be deleted");
    }
    give_up_parts(&parts.objects, upload).await;
    clear_staging(parts, upload.id).await;
}

async fn clear_staging(parts: &Parts, upload: UploadId) {
    if let Err(error) = parts.objects.delete_under(&staging_prefix(upload)).await {
        tracing::warn!(%error, upload.id = %upload, "staged bytes could not be deleted");
    }
}

/// Those of a joined upload lie in the folders of its parts.
async fn clear_segments(parts: &Parts, segments: &[Segment]) {
    for segment in segments {
        if let Err(error) = parts.objects.delete(&segment.key).await {
            tracing::warn!(%error, key = segment.key, "a staged segment could not be deleted");
        }
    }
}

fn failure(error: UploadError) -> JobFailure {
    match error {
        UploadError::Fenced => JobFailure::Fenced,
        error => JobFailure::Retry(error.into()),
    }
}
