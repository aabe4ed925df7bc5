//! Empties the trash: a video whose time there is over goes for good.
//!
//! First a mark, after which nothing leads back to the video and its jobs are fenced; then its objects;
//! then its rows. Killed anywhere, the next run finds the mark and goes on. An object that a process
//! which was frozen meanwhile puts afterwards belongs to nobody, and the collection takes it.

use std::sync::Arc;

use async_trait::async_trait;

use crate::catalog::service::stale;
use crate::catalog::{CatalogError, DuePurge};
use crate::id::VideoId;
use crate::jobs::worker::{JobContext, JobFailure, JobHandler};
use crate::platform::parts::Parts;
use crate::storage::multipart::give_up_parts;
use crate::storage::service::staging_prefix;
use crate::store::{BoxError, Causes};

use super::ended;

pub(super) const KIND: &str = "purge_trash";

/// Videos that one job purges: each may have thousands of objects.
const VIDEOS_AT_ONCE: u16 = 20;

#[derive(Debug)]
pub(super) struct PurgeTrash(pub(super) Arc<Parts>);

#[async_trait]
impl JobHandler for PurgeTrash {
    async fn run(&self, context: JobContext) -> Result<Causes, JobFailure> {
        let (mut after, mut left, mut failed) = (None, VIDEOS_AT_ONCE, None);
        while left > 0 {
            let due = self.0.store.videos_to_purge(self.0.now(), after, left).await;
            let due = due.map_err(|error| JobFailure::Retry(error.into()))?;
            let Some(last) = due.last() else { break };
            after = Some(*last);
            for DuePurge { id, .. } in due {
                if context.cancel.is_cancelled() {
                    return Err(JobFailure::Cancelled);
                }
                // One that cannot be purged must not keep the others back: it is no part of the share.
                match purge(&self.0, id).await {
                    Ok(()) => left -= 1,
                    Err(error) => {
                        tracing::warn!(%error, video.id = %id, "{id} could not be purged and will be tried again");
                        failed = Some(error);
                    }
                }
            }
        }
        match failed {
            // After a full share the next job tries it again as well.
            Some(error) if left > 0 => Err(JobFailure::Retry(error)),
            _ => Ok(ended(&self.0, KIND, left == 0)),
        }
    }
}

async fn purge(parts: &Parts, video: VideoId) -> Result<(), BoxError> {
    let uploads = match parts.store.begin_purge(video, parts.now()).await {
        Ok(uploads) => uploads,
        // Restored since it was listed, or purged by another process.
        Err(CatalogError::NotFound) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for upload in uploads {
        if let Some(upload) = parts.store.upload(upload).await? {
            give_up_parts(&parts.objects, &upload).await;
        }
        parts.objects.delete_under(&staging_prefix(upload)).await?;
    }
    for room in ["originals", "renditions"] {
        parts.objects.delete_under(&format!("{room}/{video}")).await?;
    }
    let causes = stale(video).into_iter().fold(Causes::none(), Causes::change);
    if parts.store.finish_purge(video, causes).await? {
        tracing::info!(video.id = %video, "{video} was purged");
    }
    Ok(())
}
