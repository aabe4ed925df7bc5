//! What every attempt to make something of a source has: the source's bytes in a private folder that goes
//! away with the attempt, and a way for its own files into the object store.

use std::path::{Path, PathBuf};

use crate::catalog::CatalogError;
use crate::catalog::service::stale;
use crate::jobs::worker::{JobContext, JobFailure};
use crate::media::scratch::ScratchFolder;
use crate::media::{MediaError, NewObject, OutputFile, Source};
use crate::platform::parts::Parts;
use crate::storage::objects::ObjectError;
use crate::store::{BoxError, Causes};

/// One attempt of a job that works on a source. [`end`](Attempt::end) removes its files.
pub(crate) struct Attempt<'a> {
    pub(crate) parts: &'a Parts,
    pub(crate) context: &'a JobContext,
    pub(crate) source: Source,
    /// Holds the fetched original and every output.
    folder: ScratchFolder,
}

/// Why nothing more is made.
const DROPPED: &str = "The original is no longer kept; nothing more can be made of it. Upload the file again.";

impl<'a> Attempt<'a> {
    pub(crate) async fn begin(parts: &'a Parts, context: &'a JobContext, source: Source) -> Result<Self, JobFailure> {
        let folder = ScratchFolder::new(&parts.settings.data_dir, context).await.map_err(disk_failure)?;
        Ok(Self { parts, context, source, folder })
    }

    /// Whatever came of it.
    pub(crate) async fn end(self) {
        self.folder.remove().await;
    }

    /// The source as a local file.
    pub(crate) async fn fetch(&self) -> Result<PathBuf, JobFailure> {
        let facts = self.parts.store.source_facts(self.source.id).await;
        if facts.map_err(|error| JobFailure::Retry(error.into()))?.is_some_and(|facts| facts.is_dropped) {
            return Err(JobFailure::Permanent(DROPPED.to_owned()));
        }
        let input = self.folder.path().join("source");
        self.parts.objects.materialize(&self.source.object_key, &input).await.map_err(object_failure)?;
        Ok(input)
    }

    /// An empty folder for one output.
    pub(crate) async fn output(&self, name: &str) -> Result<PathBuf, JobFailure> {
        self.folder.make(name).await.map_err(disk_failure)
    }

    /// Where this attempt's objects of that name go.
    pub(crate) fn prefix(&self, name: &str) -> String {
        format!("renditions/{}/{}/{name}", self.source.video, self.context.lease.token)
    }

    /// Puts files under a prefix that is a row already.
    pub(crate) async fn store_files(
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
            let written = self.parts.objects.put_file(&key, &folder.join(&file.name)).await;
            let written = written.map_err(|error| JobFailure::Retry(error.into()))?;
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

    /// The cached copies that a visible difference makes stale.
    pub(crate) fn causes(&self) -> Causes {
        stale(self.source.video).into_iter().fold(Causes::none(), Causes::change)
    }
}

/// An attempt whose video was trashed, or whose source was replaced, while it worked has nothing left to do:
/// it was stopped if its job was told so, and ended well otherwise. A job that was stopped tells a restoring
/// that something is still to be made.
pub(crate) async fn unless_gone(attempt: &Attempt<'_>, outcome: Result<(), JobFailure>) -> Result<(), JobFailure> {
    match outcome {
        Err(JobFailure::Retry(error)) if is_not_found(&error) => match is_stopped(attempt).await? {
            true => Err(JobFailure::Cancelled),
            false => Ok(()),
        },
        outcome => outcome,
    }
}

/// The token fires a moment after the row was written, so that the row has the last word.
async fn is_stopped(attempt: &Attempt<'_>) -> Result<bool, JobFailure> {
    let Attempt { parts, context, .. } = attempt;
    if context.cancel.is_cancelled() {
        return Ok(true);
    }
    let job = parts.store.job(context.lease.job.id).await.map_err(|error| JobFailure::Retry(error.into()))?;
    Ok(job.is_some_and(|job| job.cancel_requested))
}

fn is_not_found(error: &BoxError) -> bool {
    matches!(error.downcast_ref::<CatalogError>(), Some(CatalogError::NotFound))
}

pub(crate) fn media_failure(error: MediaError) -> JobFailure {
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

fn disk_failure(error: std::io::Error) -> JobFailure {
    JobFailure::Retry(error.into())
}
