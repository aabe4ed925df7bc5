//! An upload: one attempt of a client to bring the bytes of a source.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::id::{UploadId, UserId, VideoId};

/// Where an upload is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum UploadStatus {
    /// Waits for bytes, or for the call that completes it.
    Open,
    /// A job checks what was received.
    Verifying,
    /// Its bytes are the video's source.
    Complete,
    /// Its bytes are not a video this platform accepts; `reason` says why.
    Rejected,
    /// Its time ran out.
    Expired,
    /// Its owner gave it up.
    Aborted,
}

impl UploadStatus {
    /// Every status.
    pub const ALL: [Self; 6] =
        [Self::Open, Self::Verifying, Self::Complete, Self::Rejected, Self::Expired, Self::Aborted];

    /// Allowed moves: `open → verifying → complete | rejected`; `open → expired | aborted`.
    pub fn can_become(self, next: Self) -> bool {
        use UploadStatus::{Aborted, Complete, Expired, Open, Rejected, Verifying};
        matches!((self, next), (Open, Verifying | Expired | Aborted) | (Verifying, Complete | Rejected))
    }

    /// The name used in tables and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Verifying => "verifying",
            Self::Complete => "complete",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Aborted => "aborted",
        }
    }

    /// The status with this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

impl fmt::Display for UploadStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An upload as its row says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// Its id.
    pub id: UploadId,
    /// The video it is for.
    pub video: VideoId,
    /// Who opened it.
    pub user: UserId,
    /// Where it is on its way.
    pub status: UploadStatus,
    /// How many bytes were declared.
    pub size_bytes: u64,
    /// The SHA-256 that was declared, if one was.
    pub declared_sha256: Option<[u8; 32]>,
    /// The staged object that holds all bytes, once they are there.
    pub staged_key: Option<String>,
    /// The SHA-256 of the received bytes, computed while they came.
    pub received_sha256: Option<[u8; 32]>,
    /// Why it was rejected, for a person.
    pub reason: Option<String>,
    /// When it was opened.
    pub created_at: Timestamp,
    /// Until when bytes are taken.
    pub expires_at: Timestamp,
}

/// An upload to be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewUpload {
    /// Its id.
    pub id: UploadId,
    /// The video it is for.
    pub video: VideoId,
    /// Who opens it and whose the video must be.
    pub user: UserId,
    /// How many bytes are declared, at least 1.
    pub size_bytes: u64,
    /// The SHA-256 of the file, if the client says.
    pub declared_sha256: Option<[u8; 32]>,
    /// When it is opened.
    pub now: Timestamp,
    /// Until when bytes are taken.
    pub expires_at: Timestamp,
    /// The most the user may have stored and reserved, this upload included.
    pub quota_bytes: u64,
    /// The most uploads of one video that may be open at once, this one included.
    pub max_open: u32,
}
