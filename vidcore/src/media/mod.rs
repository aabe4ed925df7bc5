//! From a stored original to playable renditions: probing, the ladder, the transcoders, and the
//! rows that say which rendition exists.

use async_trait::async_trait;

use crate::catalog::CatalogError;
use crate::clock::Timestamp;
use crate::id::{RenditionId, SourceId, VideoId};
use crate::store::{Causes, Fence, StoreError};

mod attempt;
mod choose;
mod complaint;
pub mod ffmpeg;
pub mod hls;
mod hot;
pub mod jobs;
pub mod ladder;
pub mod lifecycle;
pub(crate) mod make_pictures;
pub(crate) mod make_rendition;
mod master_playlist;
pub mod playback;
pub mod probe;
mod process;
pub(crate) mod process_video;
pub mod rendition;
pub mod sandbox;
pub(crate) mod scratch;
pub mod served;
pub(crate) mod settle_video;
pub(crate) mod showing;
pub mod simulated;
pub mod sniff;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;
pub mod storyboard;
pub mod transcoder;

pub use choose::DETECTING;
pub(crate) use choose::{Choice, choose};
pub use playback::Playback;
pub use rendition::{NewObject, PlannedRendition, Rendition, RenditionKind, RenditionStatus, Source, SourceFacts};
pub use transcoder::{EncodeRequest, Encoded, MediaError, MediaInfo, OutputFile, Progress, RenditionPlan, Transcoder};

/// A rendition whose objects are all stored and that is to become visible.
#[derive(Debug, Clone)]
pub struct PublishRendition {
    /// The attempt that made it.
    pub fence: Fence,
    /// Its row.
    pub rendition: RenditionId,
    /// Bits per second of the whole rendition, at its peak (RFC 8216 §4.3.4.2 `BANDWIDTH`).
    pub bandwidth: Option<u32>,
    /// RFC 6381 codecs, such as `avc1.64001f,mp4a.40.2`.
    pub codecs: Option<String>,
    /// Its objects; a `file` rendition names the source's object instead and has none.
    pub objects: Vec<NewObject>,
    /// Now.
    pub now: Timestamp,
}

/// A verdict on a video of which nothing more is made.
#[derive(Debug, Clone)]
pub struct SettleVideo {
    /// The job that brings it.
    pub fence: Fence,
    /// The video.
    pub video: VideoId,
    /// Why the video fails, if it does; also why a rendition does that is not among `renditions`.
    pub reason: String,
    /// Why these renditions were not made.
    pub renditions: Vec<(RenditionId, String)>,
    /// Now.
    pub now: Timestamp,
}

/// Renditions, their sources and their objects as rows.
///
/// # Contract
/// * Every mutating method is fenced: if the job is not leased under the fence's token, nothing is
///   written and the answer is [`CatalogError::Fenced`].
/// * An output prefix is a row before the first object under it is put.
/// * Publishing is one transaction: rendition `encoding → ready`, its objects, and on the source's first
///   one the video's move to `ready`.
/// * A video shows length, size and pictures of the source that is played; as long as none is, of the one
///   that was looked at last.
#[async_trait]
pub trait RenditionStore: Send + Sync {
    /// The current source of a video.
    async fn current_source(&self, video: VideoId) -> Result<Option<Source>, StoreError>;

    /// Every rendition of the current source, best first.
    async fn renditions(&self, video: VideoId) -> Result<Vec<Rendition>, StoreError>;

    /// The ready renditions that are played now, best first: those of the newest source that has any,
    /// so that a video stays playable while a new source is processed.
    async fn playable_renditions(&self, video: VideoId) -> Result<Vec<Rendition>, StoreError>;

    /// What is known of a source; `None` if there is none of this id.
    async fn source_facts(&self, source: SourceId) -> Result<Option<SourceFacts>, StoreError>;

    /// Moves the video to `processing` and returns the source. A video that is `ready` with a rendition
    /// of this very source stays `ready`.
    ///
    /// # Errors
    /// [`CatalogError::Fenced`]; [`CatalogError::NotFound`] if the video was trashed or the source is
    /// no longer current; [`CatalogError::WrongState`].
    async fn start_processing(&self, fence: Fence, source: SourceId, now: Timestamp) -> Result<Source, CatalogError>;

    /// Records what was probed and plans the renditions that do not exist yet. Returns every rendition
    /// of the source.
    ///
    /// # Errors
    /// [`CatalogError::Fenced`]; [`CatalogError::NotFound`] if the video was trashed or the source is
    /// no longer current.
    async fn plan_processing(
        &self,
        fence: Fence,
        source: SourceId,
        info: MediaInfo,
        planned: Vec<PlannedRendition>,
        now: Timestamp,
    ) -> Result<Vec<Rendition>, CatalogError>;

    /// Takes the rendition for this attempt: `planned | encoding | failed → encoding` with its token
    /// and the output prefix, which is recorded.
    ///
    /// # Errors
    /// [`CatalogError::Fenced`]; [`CatalogError::WrongState`] if it is ready.
    async fn begin_rendition(
        &self,
        fence: Fence,
        rendition: RenditionId,
        prefix: String,
        now: Timestamp,
    ) -> Result<(), CatalogError>;

    /// Makes a finished rendition visible.
    ///
    /// # Errors
    /// [`CatalogError::Fenced`] also when the rendition is not this attempt's; [`CatalogError::NotFound`]
    /// if the video was trashed (even if it was restored since and waits for another job) or the source
    /// is no longer current.
    async fn publish_rendition(&self, command: PublishRendition, causes: Causes) -> Result<(), CatalogError>;

    /// Records that the rendition cannot be made.
    ///
    /// # Errors
    /// [`CatalogError::Fenced`].
    async fn fail_rendition(&self, fence: Fence, rendition: RenditionId, reason: String) -> Result<(), CatalogError>;

    /// Records an output prefix that belongs to no rendition (a poster's, a storyboard's).
    ///
    /// # Errors
    /// [`CatalogError::Fenced`].
    async fn begin_prefix(
        &self,
        fence: Fence,
        video: VideoId,
        prefix: String,
        now: Timestamp,
    ) -> Result<(), CatalogError>;

    /// Up to `limit` output prefixes above `after`, sorted, whose attempt has ended: nothing that is put
    /// under them from now on becomes visible.
    async fn ended_prefixes(&self, after: &str, limit: u16) -> Result<Vec<String>, StoreError>;

    /// Forgets those of the prefixes whose attempt has ended, and returns how many went. The objects that
    /// were published under them have rows of their own.
    async fn forget_prefixes(&self, prefixes: Vec<String>) -> Result<u64, StoreError>;

    /// Makes a stored poster the source's, and the video's as far as the source is shown. A source that has
    /// one keeps it.
    ///
    /// # Errors
    /// [`CatalogError::Fenced`]; [`CatalogError::NotFound`] if the video was trashed or the source is no
    /// longer current.
    async fn publish_poster(
        &self,
        fence: Fence,
        source: SourceId,
        poster: NewObject,
        now: Timestamp,
        causes: Causes,
    ) -> Result<(), CatalogError>;

    /// Makes a stored storyboard the source's, and the video's as far as the source is shown: its WebVTT
    /// file comes first, then the sheets. A source that has one keeps it.
    ///
    /// # Errors
    /// [`CatalogError::Fenced`]; [`CatalogError::NotFound`] if the video was trashed or the source is no
    /// longer current.
    async fn publish_storyboard(
        &self,
        fence: Fence,
        source: SourceId,
        objects: Vec<NewObject>,
        now: Timestamp,
        causes: Causes,
    ) -> Result<(), CatalogError>;

    /// Ends what nobody makes any more. Renditions of the current source that are not made and that no live
    /// job makes become `failed`. Once none is on its way, a video that is `uploaded` or `processing` moves to
    /// `failed` with the reason, or to `ready` if something of the source is ready; one that an earlier
    /// source keeps playable is `ready`, with the reason. Nothing at all is done if the video is trashed or
    /// has a live job that plans its renditions.
    ///
    /// # Errors
    /// [`CatalogError::Fenced`].
    async fn settle_video(&self, command: SettleVideo, causes: Causes) -> Result<(), CatalogError>;
}
