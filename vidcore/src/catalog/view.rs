//! Videos as the API shows them: nothing specific to the caller, so that cached bytes can be served
//! as they are.

use serde::{Deserialize, Serialize};

use crate::catalog::{Video, VideoStatus, Visibility};
use crate::clock::Timestamp;
use crate::id::{RenditionId, UserId, VideoId};
use crate::media::{Rendition, RenditionKind, RenditionStatus};
use crate::platform::Links;

/// Whose video it is, as everybody may know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OwnerView {
    /// The account.
    pub id: UserId,
    /// Its public name.
    pub handle: String,
}

/// Where and how a video is played.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PlaybackLinks {
    /// `hls`: `url` is a master playlist (RFC 8216). `file`: `url` is the file, by byte ranges.
    #[serde(rename = "type")]
    pub kind: RenditionKind,
    /// Path of the playlist or file on this server.
    pub url: String,
    /// Path of the poster, if there is one.
    pub poster_url: Option<String>,
    /// Path of the storyboard, if there is one: a WebVTT file whose cues name parts of the pictures beside it
    /// (`sheet.jpg#xywh=0,0,160,90`, W3C Media Fragments 1.0).
    pub storyboard_url: Option<String>,
    /// When the links end; `null` for those of public and unlisted videos.
    pub expires_at: Option<Timestamp>,
}

/// A video.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct VideoView {
    /// Its id.
    pub id: VideoId,
    /// Whose it is.
    pub owner: OwnerView,
    /// 1 to 120 characters.
    pub title: String,
    /// At most 5,000 characters.
    pub description: String,
    /// At most 20, each 1 to 40 characters.
    pub tags: Vec<String>,
    /// Who may see it.
    pub visibility: Visibility,
    /// Where it is on its way.
    pub status: VideoStatus,
    /// Grows with every change but those of counters; the first part of the `ETag`.
    pub version: i64,
    /// Why the last processing failed.
    pub failure: Option<String>,
    /// Length in milliseconds.
    pub duration_ms: Option<i64>,
    /// Width in pixels, as shown.
    pub width: Option<u32>,
    /// Height in pixels, as shown.
    pub height: Option<u32>,
    /// Views counted so far.
    pub views: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed, counters apart.
    pub updated_at: Timestamp,
    /// When it first became playable.
    pub published_at: Option<Timestamp>,
    /// When it was put into the trash.
    pub deleted_at: Option<Timestamp>,
    /// When the trash will be emptied of it.
    pub purge_at: Option<Timestamp>,
    /// How to play it; `null` while it is not playable, private or trashed. A private video is played
    /// through a playback token.
    pub playback: Option<PlaybackLinks>,
}

impl VideoView {
    /// The view of a row.
    pub fn new(video: Video, links: &Links) -> Self {
        let playback = video.is_open().then(|| links.public_playback(&video)).flatten();
        Self {
            id: video.id,
            owner: OwnerView { id: video.owner, handle: video.owner_handle },
            title: video.title,
            description: video.description,
            tags: video.tags,
            visibility: video.visibility,
            status: video.status,
            version: video.version,
            failure: video.failure,
            duration_ms: video.duration_ms,
            width: video.width,
            height: video.height,
            views: video.views,
            created_at: video.created_at,
            updated_at: video.updated_at,
            published_at: video.published_at,
            deleted_at: video.deleted_at,
            purge_at: video.purge_at,
            playback,
        }
    }
}

/// One playable form of a video.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RenditionView {
    /// Its id.
    pub id: RenditionId,
    /// `720p` and the like, or `original`.
    pub name: String,
    /// How it is played.
    #[serde(rename = "type")]
    pub kind: RenditionKind,
    /// Where it is on its way.
    pub status: RenditionStatus,
    /// Width in pixels; 0 if not known.
    pub width: u32,
    /// Height in pixels; 0 if not known.
    pub height: u32,
    /// Peak bits per second, once made.
    pub bandwidth: Option<u32>,
    /// RFC 6381 codecs, once made.
    pub codecs: Option<String>,
    /// Why it could not be made.
    pub failure: Option<String>,
    /// When it became playable.
    pub ready_at: Option<Timestamp>,
}

impl From<Rendition> for RenditionView {
    fn from(rendition: Rendition) -> Self {
        Self {
            id: rendition.id,
            name: rendition.name,
            kind: rendition.kind,
            status: rendition.status,
            width: rendition.width,
            height: rendition.height,
            bandwidth: rendition.bandwidth,
            codecs: rendition.codecs,
            failure: rendition.failure,
            ready_at: rendition.ready_at,
        }
    }
}

/// How far a video is on its way: what a client polls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StatusView {
    /// The video.
    pub id: VideoId,
    /// Where it is on its way.
    pub status: VideoStatus,
    /// Whether it can be played now.
    pub playable: bool,
    /// 0 to 1000 permille over all renditions; 1000 once the video is ready and none is on its way.
    pub progress: u16,
    /// Which transcoder this server uses: `ffmpeg` or `simulated`; `detecting` for a moment after the start.
    pub transcoder: String,
    /// Why the last processing failed.
    pub failure: Option<String>,
    /// Every rendition of the current source.
    pub renditions: Vec<RenditionView>,
}
