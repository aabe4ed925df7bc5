//! The video: its states, its row, and the changes an owner may make.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::id::{UserId, VideoId};
use crate::media::RenditionKind;

/// Where a video is on its way from metadata to playable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum VideoStatus {
    /// Metadata only.
    Draft,
    /// A verified source is stored and waits for processing.
    Uploaded,
    /// A job makes its renditions.
    Processing,
    /// At least one rendition is playable.
    Ready,
    /// Processing ended without a playable rendition; `failure` says why.
    Failed,
}

impl VideoStatus {
    /// Every status, in the order of the usual way.
    pub const ALL: [Self; 5] = [Self::Draft, Self::Uploaded, Self::Processing, Self::Ready, Self::Failed];

    /// Allowed moves: `draft → uploaded → processing → ready | failed`; `failed | ready → processing`
    /// (retry); any status `→ uploaded` when a new source takes the place of the old one or trashing
    /// takes the processing away; `uploaded → failed` when the job dies before its first step.
    pub fn can_become(self, next: Self) -> bool {
        use VideoStatus::{Failed, Processing, Ready, Uploaded};
        matches!(
            (self, next),
            (_, Uploaded) | (Uploaded | Failed | Ready, Processing) | (Processing, Ready | Failed) | (Uploaded, Failed)
        )
    }

    /// The name used in tables and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Uploaded => "uploaded",
            Self::Processing => "processing",
            Self::Ready => "ready",
            Self::Failed => "failed",
        }
    }

    /// The status with this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

impl fmt::Display for VideoStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who may find and play a video once it is playable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Visibility {
    /// Everybody; it is listed and searchable.
    Public,
    /// Everybody who knows its id; it is in no list.
    Unlisted,
    /// Its owner, and whoever holds a playback token.
    #[default]
    Private,
}

impl Visibility {
    /// The name used in tables and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Unlisted => "unlisted",
            Self::Private => "private",
        }
    }

    /// The visibility with this name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Public, Self::Unlisted, Self::Private].into_iter().find(|visibility| visibility.as_str() == text)
    }
}

/// A video as its row says. Not an API body: see `VideoView`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Video {
    /// Its id.
    pub id: VideoId,
    /// Whose it is.
    pub owner: UserId,
    /// The owner's public name.
    pub owner_handle: String,
    /// 1 to 120 characters.
    pub title: String,
    /// At most 5,000 characters.
    pub description: String,
    /// At most 20, each 1 to 40 characters, in the owner's order.
    pub tags: Vec<String>,
    /// Who may see it.
    pub visibility: Visibility,
    /// Where it is on its way.
    pub status: VideoStatus,
    /// Grows with every change but those of counters.
    pub version: i64,
    /// Why the last processing failed, for a person.
    pub failure: Option<String>,
    /// Length in milliseconds of the source that is played, once known.
    pub duration_ms: Option<i64>,
    /// Width in pixels as shown (after rotation), once known.
    pub width: Option<u32>,
    /// Height in pixels as shown (after rotation), once known.
    pub height: Option<u32>,
    /// Object key of the poster, once there is one.
    pub poster_key: Option<String>,
    /// Object key of the storyboard's WebVTT file, once there is one.
    pub storyboard_key: Option<String>,
    /// How it is played, once it is playable.
    pub playback_kind: Option<RenditionKind>,
    /// Raised to kill every playback link given out before.
    pub playback_epoch: u32,
    /// Views counted so far.
    pub views: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed, counters apart.
    pub updated_at: Timestamp,
    /// When its first rendition became playable.
    pub published_at: Option<Timestamp>,
    /// When it was put into the trash.
    pub deleted_at: Option<Timestamp>,
    /// When it will be deleted for good.
    pub purge_at: Option<Timestamp>,
}

impl Video {
    /// Whether it has a ready rendition.
    pub fn is_playable(&self) -> bool {
        self.published_at.is_some()
    }

    /// Whether anybody who knows the id may see it.
    pub fn is_open(&self) -> bool {
        self.visibility != Visibility::Private && self.is_playable() && self.deleted_at.is_none()
    }

    /// Whether it stands in public lists.
    pub fn is_listed(&self) -> bool {
        self.visibility == Visibility::Public && self.is_open()
    }
}

/// A draft to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewVideo {
    /// Its id.
    pub id: VideoId,
    /// Whose it is.
    pub owner: UserId,
    /// 1 to 120 characters.
    pub title: String,
    /// At most 5,000 characters.
    pub description: String,
    /// At most 20.
    pub tags: Vec<String>,
    /// Who may see it once it is playable.
    pub visibility: Visibility,
    /// When it is made.
    pub now: Timestamp,
}

/// What an owner changes; `None` leaves a field as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VideoPatch {
    /// The new title.
    pub title: Option<String>,
    /// The new description; empty text takes it away.
    pub description: Option<String>,
    /// The new tags, all of them.
    pub tags: Option<Vec<String>>,
    /// The new visibility.
    pub visibility: Option<Visibility>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_video_reaches_ready_only_through_processing() {
        for status in VideoStatus::ALL {
            assert_eq!(status == VideoStatus::Processing, status.can_become(VideoStatus::Ready), "{status}");
        }
    }
}
