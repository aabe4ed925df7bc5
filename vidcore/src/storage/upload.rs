//! An upload: one attempt of a client to bring the bytes of a source.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::catalog::NewVideo;
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
    /// It is a part, and its bytes belong to the upload it was joined into.
    Used,
}

impl UploadStatus {
    /// Every status.
    pub const ALL: [Self; 7] =
        [Self::Open, Self::Verifying, Self::Complete, Self::Rejected, Self::Expired, Self::Aborted, Self::Used];

    /// Allowed moves: `open → verifying → complete | rejected`; `open → expired | aborted | used`.
    pub fn can_become(self, next: Self) -> bool {
        use UploadStatus::{Aborted, Complete, Expired, Open, Rejected, Used, Verifying};
        matches!((self, next), (Open, Verifying | Expired | Aborted | Used) | (Verifying, Complete | Rejected))
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
            Self::Used => "used",
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

/// How the bytes of an upload come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum UploadKind {
    /// In one delivery, all or nothing.
    Whole,
    /// In as many requests as it takes, each going on where the one before ended.
    Resumable,
    /// Like `resumable`, to be joined with others; it belongs to no video by itself.
    Part,
    /// As parts that were uploaded before.
    Joined,
    /// In parts that the client puts into the bucket itself.
    Multipart,
}

impl UploadKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Whole, Self::Resumable, Self::Part, Self::Joined, Self::Multipart];

    /// Whether it is gone on with by appending, or joined of such.
    pub fn is_resumable(self) -> bool {
        matches!(self, Self::Resumable | Self::Part | Self::Joined)
    }

    /// The name used in tables and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Resumable => "resumable",
            Self::Part => "part",
            Self::Joined => "joined",
            Self::Multipart => "multipart",
        }
    }

    /// The kind with this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// An upload as its row says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// Its id.
    pub id: UploadId,
    /// The video it is for; a part is for none.
    pub video: Option<VideoId>,
    /// Who opened it.
    pub user: UserId,
    /// How its bytes come.
    pub kind: UploadKind,
    /// Where it is on its way.
    pub status: UploadStatus,
    /// How many bytes were declared or, while the length is deferred, have come.
    pub size_bytes: u64,
    /// Whether the length is still to be declared.
    pub length_deferred: bool,
    /// Bytes that came by appending, each of them durable.
    pub offset_bytes: u64,
    /// Whether whoever appended last ended in order, so that nobody writes to its segments any more.
    pub is_quiet: bool,
    /// The SHA-256 that was declared, if one was.
    pub declared_sha256: Option<[u8; 32]>,
    /// The staged object that holds all bytes, once they are there.
    pub staged_key: Option<String>,
    /// How its bytes get into the bucket, if the client brings them there itself.
    pub multipart: Option<Multipart>,
    /// The SHA-256 of the received bytes, computed while they came or, of parts, once they were joined.
    pub received_sha256: Option<[u8; 32]>,
    /// What the client said about the file, word for word.
    pub metadata: Option<String>,
    /// How the client said it is joined, word for word.
    pub concatenation: Option<String>,
    /// Why it was rejected, for a person.
    pub reason: Option<String>,
    /// When it was opened.
    pub created_at: Timestamp,
    /// Until when bytes are taken.
    pub expires_at: Timestamp,
}

impl Upload {
    /// Whether every byte is there.
    pub fn is_received(&self) -> bool {
        match self.kind {
            UploadKind::Whole => self.staged_key.is_some(),
            UploadKind::Resumable | UploadKind::Part => !self.length_deferred && self.offset_bytes == self.size_bytes,
            UploadKind::Joined => true,
            // Which parts are there the bucket knows alone.
            UploadKind::Multipart => self.multipart.as_ref().is_some_and(|parts| parts.bucket_upload.is_some()),
        }
    }
}

/// The parts that a client puts into the bucket itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Multipart {
    /// Bytes of each part but the last.
    pub part_size_bytes: u64,
    /// The bucket's id for them, once they were begun.
    pub bucket_upload: Option<String>,
}

/// An upload to be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewUpload {
    /// Its id.
    pub id: UploadId,
    /// The video it is for; `None` for a part.
    pub video: Option<VideoId>,
    /// Who opens it and whose the video must be.
    pub user: UserId,
    /// How its bytes will come.
    pub kind: UploadKind,
    /// How many bytes are declared, at least 1; `None` defers that.
    pub size_bytes: Option<u64>,
    /// The SHA-256 of the file, if the client says.
    pub declared_sha256: Option<[u8; 32]>,
    /// Bytes of each part but the last, for one of the kind `multipart` alone.
    pub part_size_bytes: Option<u64>,
    /// What the client says about the file, word for word.
    pub metadata: Option<String>,
    /// How the client says it is joined, word for word.
    pub concatenation: Option<String>,
    /// A draft that is made along with it, and is its video.
    pub draft: Option<NewVideo>,
    /// When it is opened.
    pub now: Timestamp,
    /// Until when bytes are taken.
    pub expires_at: Timestamp,
    /// The most the user may have stored and reserved, this upload included.
    pub quota_bytes: u64,
    /// The most uploads of one video, or parts of one user, that may be open at once, this one included.
    pub max_open: u32,
}

/// A staged object that holds a run of an upload's bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Its place among the segments of the upload, from 0 without gaps.
    pub seq: u32,
    /// The object's key.
    pub key: String,
    /// How many of the object's bytes count: there may be more, which nobody acknowledged.
    pub size_bytes: u64,
}

/// A client that wants to append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BeginAppend {
    /// The upload.
    pub id: UploadId,
    /// Who opened it.
    pub user: UserId,
    /// Where the client goes on.
    pub offset_bytes: u64,
    /// The length, if it is declared now.
    pub length: Option<u64>,
    /// How many bytes are announced to come, if that is known.
    pub announced: Option<u64>,
    /// The most the length may be.
    pub max_size_bytes: u64,
    /// The most the user may have stored and reserved.
    pub quota_bytes: u64,
    /// Drawn for this request: whoever named one last may move the offset.
    pub writer: [u8; 16],
}

/// What an append goes on from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Appending {
    /// The upload.
    pub upload: Upload,
    /// Its segments so far, in order.
    pub segments: Vec<Segment>,
    /// What of SHA-256 goes on; `None` at offset 0.
    pub hash_state: Option<Vec<u8>>,
    /// Whether the last writer ended in order, so that nobody writes to the last segment any more.
    pub is_quiet: bool,
    /// The bytes that the user's quota leaves for it, beyond what it has reserved.
    pub quota_left: u64,
}

/// Bytes that are durable, to be acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordAppend {
    /// The upload.
    pub id: UploadId,
    /// As named in [`BeginAppend`].
    pub writer: [u8; 16],
    /// The offset they begin at.
    pub from: u64,
    /// The offset after them.
    pub to: u64,
    /// The segments that are new or have grown, in order.
    pub segments: Vec<Segment>,
    /// What of SHA-256 goes on at `to`.
    pub hash_state: Vec<u8>,
    /// SHA-256 of all bytes up to `to`.
    pub sha256: [u8; 32],
    /// Whether somebody may still write to the last segment: this writer, or one before it that was interrupted.
    pub goes_on: bool,
    /// The most the user may have stored and reserved.
    pub quota_bytes: u64,
    /// Until when bytes are taken from now on; never earlier than before.
    pub expires_at: Timestamp,
}

/// Parts to be joined into one upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinUploads {
    /// The upload they become. Its size is the sum of theirs.
    pub new: NewUpload,
    /// The parts, in order.
    pub parts: Vec<UploadId>,
    /// The most the sum may be.
    pub max_size_bytes: u64,
}
