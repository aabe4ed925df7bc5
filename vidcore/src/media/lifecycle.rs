//! What is given up of a video while the rest of it plays on: its original, one of its renditions.

use async_trait::async_trait;

use crate::catalog::CatalogError;
use crate::clock::Timestamp;
use crate::id::{SourceId, UserId, VideoId};
use crate::store::{Causes, StoreError};

/// A rendition that its owner wants no more.
#[derive(Debug, Clone)]
pub struct DropRendition {
    /// The video.
    pub video: VideoId,
    /// Whose it must be; `None` for a moderator.
    pub owner: Option<UserId>,
    /// The rendition's name, such as `720p`.
    pub name: String,
    /// Now.
    pub now: Timestamp,
}

/// Giving up objects by their rows. The rows go first; a crash before the objects have gone leaves what belongs to
/// nobody, and the collection takes it.
#[async_trait]
pub trait LifecycleStore: Send + Sync {
    /// Up to `limit` sources that came before `before`, oldest first, whose originals nobody needs: the video is
    /// ready and not trashed, no live job works on it, every rendition of the source is settled, this source or a
    /// newer one plays, and the original itself is not what plays.
    async fn idle_originals(&self, before: Timestamp, limit: u16) -> Result<Vec<SourceId>, StoreError>;

    /// Drops the original of a source if it is still one of [`idle_originals`](Self::idle_originals); returns the key
    /// of its object, which is to be deleted.
    async fn drop_original(&self, source: SourceId, before: Timestamp) -> Result<Option<String>, StoreError>;

    /// Deletes a ready rendition that is played now, with the rows of its objects; returns their prefix if they are
    /// its own.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`]; [`CatalogError::WrongState`] if it is not ready; [`CatalogError::LastRendition`].
    async fn drop_rendition(&self, command: DropRendition, causes: Causes) -> Result<Option<String>, CatalogError>;
}
