//! Private folders for the files of one attempt.
//!
//! `scratch/{job}/{token}` under the data folder: an attempt removes its own when it ends, a later
//! attempt of the same job removes what a killed process left, and housekeeping removes what is left
//! of jobs that have ended.

use std::path::{Path, PathBuf};

use crate::id::JobId;
use crate::jobs::worker::JobContext;
use crate::store::{Store, StoreError};

/// The folder's name under the data folder.
pub(crate) const SCRATCH: &str = "scratch";

/// One attempt's folder.
#[derive(Debug)]
pub(crate) struct ScratchFolder {
    path: PathBuf,
}

impl ScratchFolder {
    /// A new, empty folder for this attempt.
    pub(crate) async fn new(data_dir: &Path, context: &JobContext) -> std::io::Result<Self> {
        let of_job = data_dir.join(SCRATCH).join(context.lease.job.id.to_string());
        remove(&of_job).await?;
        let path = of_job.join(context.lease.token.to_string());
        tokio::fs::create_dir_all(&path).await?;
        Ok(Self { path })
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes an empty folder in it for one output.
    pub(crate) async fn make(&self, name: &str) -> std::io::Result<PathBuf> {
        let path = self.path.join(format!("out-{name}"));
        tokio::fs::create_dir(&path).await?;
        Ok(path)
    }

    /// Removes this attempt's folder; the job's own only once no other attempt is in it.
    pub(crate) async fn remove(&self) {
        if let Err(error) = remove(&self.path).await {
            tracing::warn!(%error, "a scratch folder could not be removed");
        }
        if let Some(of_job) = self.path.parent() {
            let _ = tokio::fs::remove_dir(of_job).await;
        }
    }
}

/// Removes the folders of jobs that have ended: what killed processes left.
pub(crate) async fn remove_ended(data_dir: &Path, store: &dyn Store) -> Result<(), StoreError> {
    let root = data_dir.join(SCRATCH);
    let Ok(mut entries) = tokio::fs::read_dir(&root).await else { return Ok(()) };
    while let Ok(Some(entry)) = entries.next_entry().await {
        let Some(job) = entry.file_name().to_str().and_then(|name| name.parse::<JobId>().ok()) else { continue };
        let ended = match store.job(job).await {
            Ok(job) => job.is_none_or(|job| job.state.is_final()),
            Err(crate::jobs::JobError::Store(error)) => return Err(error),
            Err(_) => false,
        };
        if ended && let Err(error) = remove(&entry.path()).await {
            tracing::warn!(%error, job.id = %job, "the scratch folder of {job} could not be removed");
        }
    }
    Ok(())
}

async fn remove(folder: &Path) -> std::io::Result<()> {
    match tokio::fs::remove_dir_all(folder).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
