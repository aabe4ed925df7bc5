//! Sources and renditions: rows, states, and the objects they are made of.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::id::{RenditionId, SourceId, UploadId, VideoId};
use crate::media::MediaInfo;

/// Where a rendition is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum RenditionStatus {
    /// Wanted.
    Planned,
    /// An attempt is making it.
    Encoding,
    /// Playable.
    Ready,
    /// It could not be made.
    Failed,
}

impl RenditionStatus {
    /// Allowed moves: `planned → encoding → ready | failed`; `encoding | failed → encoding` by a later attempt;
    /// `planned → failed` when its job dies first.
    pub fn can_become(self, next: Self) -> bool {
        use RenditionStatus::{Encoding, Failed, Planned, Ready};
        matches!((self, next), (Planned | Encoding | Failed, Encoding) | (Encoding, Ready | Failed) | (Planned, Failed))
    }

    /// The name used in tables and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Encoding => "encoding",
            Self::Ready => "ready",
            Self::Failed => "failed",
        }
    }

    /// The status with this name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Planned, Self::Encoding, Self::Ready, Self::Failed].into_iter().find(|status| status.as_str() == text)
    }
}

impl fmt::Display for RenditionStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a rendition is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum RenditionKind {
    /// An HLS media playlist with fragmented MP4 segments (RFC 8216).
    Hls,
    /// One file, by byte ranges (RFC 9110 §14).
    File,
}

impl RenditionKind {
    /// The name used in tables and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hls => "hls",
            Self::File => "file",
        }
    }

    /// The kind with this name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Hls, Self::File].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// A verified file a video is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Its id.
    pub id: SourceId,
    /// The video it belongs to.
    pub video: VideoId,
    /// The upload that brought it.
    pub upload: UploadId,
    /// Where its bytes are: `originals/{video}/{upload}`.
    pub object_key: String,
    /// Its size.
    pub size_bytes: u64,
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
    /// `video/mp4` and the like, judged by content.
    pub content_type: String,
}

/// What is known of a source besides its file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceFacts {
    /// What the probe found, once there was one.
    pub info: Option<MediaInfo>,
    /// The key of its poster, once there is one.
    pub poster_key: Option<String>,
    /// The key of its storyboard's WebVTT file, once there is one.
    pub storyboard_key: Option<String>,
    /// Whether its original is no longer kept: nothing more can be made of it.
    pub is_dropped: bool,
}

/// One playable form of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rendition {
    /// Its id.
    pub id: RenditionId,
    /// The video it belongs to.
    pub video: VideoId,
    /// The source it is made from.
    pub source: SourceId,
    /// Unique among the source's: `720p`, or `original` for the file itself.
    pub name: String,
    /// How it is played.
    pub kind: RenditionKind,
    /// Where it is on its way.
    pub status: RenditionStatus,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Peak bits per second, once made.
    pub bandwidth: Option<u32>,
    /// RFC 6381 codecs, once made.
    pub codecs: Option<String>,
    /// Where its objects are, without a final slash; for a `file` the key of the object itself.
    pub prefix: Option<String>,
    /// Why it could not be made.
    pub failure: Option<String>,
    /// When it became playable.
    pub ready_at: Option<Timestamp>,
}

/// A rendition to be planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedRendition {
    /// Its id, used if the source has none of this name yet.
    pub id: RenditionId,
    /// `720p`, or `original`.
    pub name: String,
    /// How it is played.
    pub kind: RenditionKind,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
}

/// A stored object that becomes visible with the command that names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewObject {
    /// Its whole key.
    pub key: String,
    /// Its size.
    pub size_bytes: u64,
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
    /// What it is served as.
    pub content_type: String,
}
