//! The video catalog: what exists, who may see it, how it is found.

use async_trait::async_trait;

use crate::cache::LoadError;
use crate::catalog::popularity::{NewView, RankedVideos, RankingAt, RankingKind};
use crate::clock::Timestamp;
use crate::id::{UploadId, UserId, VideoId};
use crate::invalid::FieldProblem;
use crate::page::Position;
use crate::store::{Causes, Outcome, StoreError};

pub(crate) mod input;
pub mod popularity;
mod progress;
pub mod search;
pub mod service;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;
pub mod video;
pub mod view;

pub use popularity::{Viewer, Window};
pub use search::SearchTerms;
pub(crate) use service::CatalogCaches;
pub use service::{Catalog, CreateVideo};
pub use video::{NewVideo, Video, VideoPatch, VideoStatus, Visibility};

/// The cache topic of public video pages; keys are video ids.
pub const VIDEO_PAGES: &str = "video_pages";

/// The cache topic of popular and trending pages; any change drops them all.
pub const POPULAR: &str = "popular";

/// The cache of first pages of searches; its changes concern all of them.
pub const SEARCH: &str = "search";

/// Why a catalog command was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// The input breaks rules: every one of them.
    #[error("input is not valid")]
    Invalid(Vec<FieldProblem>),
    /// No such video, or none the caller may know of.
    #[error("video not found")]
    NotFound,
    /// The video changed since the caller read it.
    #[error("video is at version {current}")]
    VersionMismatch {
        /// The version it has now.
        current: i64,
    },
    /// The video's state does not allow the command.
    #[error("a video that is {status} cannot {command}")]
    WrongState {
        /// The state it is in: a [`VideoStatus`], or `trashed` / `not trashed`.
        status: &'static str,
        /// What was asked, as a verb.
        command: &'static str,
    },
    /// It is the only one that plays.
    #[error("the last rendition that plays cannot be deleted")]
    LastRendition,
    /// The original is no longer kept, so nothing more can be made of it.
    #[error("the original is no longer kept")]
    OriginalDropped,
    /// The lease under which the caller works is no longer held; nothing was written.
    #[error("lease is no longer held")]
    Fenced,
    /// The cursor is not one of this list's.
    #[error("cursor does not belong to this list")]
    BadCursor,
    /// The store did not carry the command out.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Which of an owner's videos a list holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnerScope {
    /// Those anybody may see.
    Public,
    /// All that are not in the trash: for the owner.
    Own,
    /// Those in the trash: for the owner.
    Trash,
}

/// A change of a video's own text and visibility.
#[derive(Debug, Clone)]
pub struct PatchVideo {
    /// The video.
    pub id: VideoId,
    /// Whose it must be; `None` for a moderator.
    pub owner: Option<UserId>,
    /// The version the caller saw.
    pub expected: i64,
    /// What to change.
    pub patch: VideoPatch,
    /// Now.
    pub now: Timestamp,
}

/// A video whose time in the trash is over, and its place among others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DuePurge {
    /// The video.
    pub id: VideoId,
    /// Whether its purge has begun.
    pub has_begun: bool,
    /// When its time was over.
    pub purge_at: Timestamp,
}

/// A move to the trash, or back.
#[derive(Debug, Clone)]
pub struct TrashVideo {
    /// The video.
    pub id: VideoId,
    /// Whose it must be; `None` for a moderator.
    pub owner: Option<UserId>,
    /// The version the caller saw, if it cares.
    pub expected: Option<i64>,
    /// Now.
    pub now: Timestamp,
    /// When a trashed video may be purged.
    pub purge_at: Timestamp,
}

/// Videos as rows.
///
/// # Contract
/// * Every public list holds only videos that are `public`, have a ready rendition and are not trashed.
/// * Lists are sorted by a number and, for equal numbers, by id, both descending, so that a page
///   that starts after a [`Position`] neither repeats nor skips.
/// * `version` grows with every change but those of counters.
/// * A video that does not match `owner` is [`CatalogError::NotFound`], like one that does not exist.
#[async_trait]
pub trait CatalogStore: Send + Sync {
    /// Creates a draft.
    async fn create_video(&self, new: NewVideo, causes: Causes) -> Result<Outcome<Video>, CatalogError>;

    /// The video with this id, trashed or not.
    async fn video(&self, id: VideoId) -> Result<Option<Video>, CatalogError>;

    /// Changes title, description, tags or visibility. Leaving `public` or `unlisted` for `private`
    /// raises the playback epoch, so that links given out before die.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`] (also when trashed), [`CatalogError::VersionMismatch`].
    async fn patch_video(&self, command: PatchVideo, causes: Causes) -> Result<Outcome<Video>, CatalogError>;

    /// Moves the video to the trash, cancels its jobs and raises its playback epoch.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`] (also when trashed already), [`CatalogError::VersionMismatch`].
    async fn trash_video(&self, command: TrashVideo, causes: Causes) -> Result<Outcome<Video>, CatalogError>;

    /// Takes the video out of the trash. One that was being processed is `uploaded`; it, one of whose
    /// current source some rendition is still to be made, and one of which the trashing stopped a job,
    /// needs the `process` job among `causes`. For every other video the jobs among `causes` are left out.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`] (also when it is not in the trash, or its purge has begun),
    /// [`CatalogError::VersionMismatch`].
    async fn restore_video(&self, command: TrashVideo, causes: Causes) -> Result<Outcome<Video>, CatalogError>;

    /// Up to `limit` videos whose time in the trash ended by `now`, those whose purge has begun first, then
    /// longest ago first; from behind `after` on, which need not be there any more.
    async fn videos_to_purge(
        &self,
        now: Timestamp,
        after: Option<DuePurge>,
        limit: u16,
    ) -> Result<Vec<DuePurge>, CatalogError>;

    /// Begins the purge of a video whose time in the trash ended by `now`: from here on it cannot be
    /// restored and takes no source, and its jobs are cancelled, running ones too, whose leases are lost.
    /// Returns the uploads whose bytes may still be staged. Doing it again changes nothing.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`] unless it is in the trash and its time is over.
    async fn begin_purge(&self, id: VideoId, now: Timestamp) -> Result<Vec<UploadId>, CatalogError>;

    /// Deletes a video whose purge has begun with every row about it: sources, renditions, objects,
    /// prefixes, uploads and jobs. Its objects go before, so that no crash leaves one without a row.
    /// `false` if there is no such video.
    async fn finish_purge(&self, id: VideoId, causes: Causes) -> Result<bool, CatalogError>;

    /// Raises the playback epoch: every playback link given out so far dies.
    ///
    /// # Errors
    /// [`CatalogError::NotFound`].
    async fn bump_playback_epoch(
        &self,
        id: VideoId,
        owner: Option<UserId>,
        now: Timestamp,
        causes: Causes,
    ) -> Result<Outcome<Video>, CatalogError>;

    /// Up to `limit` public videos after `after`, sorted by `published_at`, newest first.
    async fn public_videos(&self, after: Option<Position>, limit: u16) -> Result<Vec<Video>, CatalogError>;

    /// Up to `limit` videos of one owner after `after`, newest first: sorted by `published_at` in
    /// the public scope, by `created_at` in the others.
    async fn videos_of(
        &self,
        owner: UserId,
        scope: OwnerScope,
        after: Option<Position>,
        limit: u16,
    ) -> Result<Vec<Video>, CatalogError>;

    /// The places from `from` on, counted from 0, of a ranking of this kind, with those videos at them that are
    /// public now; `None` if there is none of that kind, or its time is over at `now`.
    async fn ranked_videos(
        &self,
        kind: RankingKind,
        at: RankingAt,
        now: Timestamp,
        from: u32,
        limit: u16,
    ) -> Result<Option<RankedVideos>, StoreError>;

    /// Puts the public videos in order, highest score first and for equal scores highest id first, keeps the
    /// first [`RANKED`](popularity::RANKED) as a ranking and returns its id, which is never given out again;
    /// forgets rankings whose time is over. If a fresh one is there, returns that: of many who ask at once, one
    /// builds. `None` if there is no public video.
    async fn build_ranking(&self, kind: RankingKind, now: Timestamp) -> Result<Option<i64>, StoreError>;

    /// Public videos that match all terms, best first, leaving out the first `offset`.
    async fn search_videos(&self, terms: &SearchTerms, offset: u32, limit: u16) -> Result<Vec<Video>, CatalogError>;

    /// Counts views, all of them or none: each once, unless another view of its video by its viewer was
    /// counted less than [`VIEW_WINDOW`](popularity::VIEW_WINDOW) from it. For each, in order: when its viewer's
    /// last counted view of the video is, which is its own time if it was counted; `None` if there is no such
    /// public or unlisted playable video. Doing it again counts nothing.
    async fn count_views(&self, views: Vec<NewView>) -> Result<Vec<Option<Timestamp>>, StoreError>;

    /// Forgets up to `limit` viewers whose last counted view of a video was at `before` or earlier; says how many.
    async fn prune_viewers(&self, before: Timestamp, limit: u16) -> Result<u64, StoreError>;
}

impl From<crate::page::BadCursor> for CatalogError {
    fn from(_: crate::page::BadCursor) -> Self {
        Self::BadCursor
    }
}

impl From<LoadError<Self>> for CatalogError {
    /// A load's error is shared by all who waited; each gets its own.
    fn from(error: LoadError<Self>) -> Self {
        match error {
            LoadError::Failed(error) => match &*error {
                Self::Store(error) => Self::Store(error.again()),
                _ => Self::NotFound,
            },
            LoadError::CutOff => {
                let source = "the load was cut off".into();
                Self::Store(StoreError::Unavailable { operation: "load a cached value", source })
            }
        }
    }
}
