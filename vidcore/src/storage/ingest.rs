//! Files that lie on this machine already.

use std::path::Path;

use futures_util::TryStreamExt;
use tokio_util::io::ReaderStream;

use crate::auth::Actor;
use crate::id::VideoId;
use crate::storage::service::{OpenUpload, UploadView, Uploads};
use crate::storage::{UploadError, UploadStatus};
use crate::store::{BoxError, Outcome};

/// Bytes read at a time.
const READ_SIZE: usize = 256 << 10;

impl Uploads {
    /// Makes a file of this machine the next source of a video of the actor's: reserves its size, copies it in, and
    /// completes the upload, which a job then verifies. The file is only read. For programs that embed the library.
    ///
    /// # Errors
    /// [`UploadError::File`] if it cannot be read; otherwise as [`open`](Self::open), [`receive`](Self::receive) and
    /// [`complete`](Self::complete). What was reserved is free again then.
    ///
    /// # Cancel safety
    /// Dropping the future may leave an open upload, which expires.
    pub async fn ingest_file(&self, actor: &Actor, video: VideoId, file: &Path) -> Result<UploadView, UploadError> {
        let file = tokio::fs::File::open(file).await.map_err(UploadError::File)?;
        let size_bytes = file.metadata().await.map_err(UploadError::File)?.len();
        let opened = self.open(actor, video, OpenUpload { size_bytes, sha256: None }, None).await?.into_inner();
        let upload = self.admit_own(actor, opened.id).await?;
        let bytes = ReaderStream::with_capacity(file, READ_SIZE).map_err(BoxError::from);
        let completed = match self.receive(upload, bytes).await {
            Ok(_) => self.complete(actor, opened.id, None).await.map(Outcome::into_inner),
            Err(error) => Err(error),
        };
        if completed.is_err() && self.read(actor, opened.id).await.is_ok_and(|left| left.status == UploadStatus::Open) {
            // The first error is the one to tell; what stays behind expires.
            let _ = self.abort(actor, opened.id, None).await;
        }
        completed
    }
}
