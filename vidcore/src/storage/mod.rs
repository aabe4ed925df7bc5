//! Bytes: object keys, the object store, signed URLs, and uploads on their way to becoming a source.

use async_trait::async_trait;

use crate::clock::Timestamp;
use crate::id::{UploadId, UserId};
use crate::invalid::FieldProblem;
use crate::media::{NewObject, Source};
use crate::store::{Causes, Fence, Outcome, StoreError};

pub mod checksum;
mod ingest;
pub mod moving;
pub mod multipart;
pub mod objects;
pub mod playback_token;
mod receiving;
pub mod resumable;
pub mod service;
pub mod signed_url;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;
pub mod staging;
pub mod upload;
pub(crate) mod verify;
pub mod viewer;

pub use checksum::{Checksum, ChecksumAlgorithm};
pub use objects::Objects;
pub use playback_token::{PlaybackGrant, PlaybackTokens};
pub use service::{OpenUpload, UploadSignature, UploadView, Uploads, UsageView};
pub use signed_url::{SignatureError, UploadUrlSigner};
pub use upload::{
    Appending, BeginAppend, JoinUploads, Multipart, NewUpload, RecordAppend, Segment, Upload, UploadKind, UploadStatus,
};
pub use viewer::{AddressPrefix, OriginRule, Visitor};

/// Why an upload command was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UploadError {
    /// The input breaks rules: every one of them.
    #[error("input is not valid")]
    Invalid(Vec<FieldProblem>),
    /// The signed URL is not one of this platform's, or was changed.
    #[error("upload URL is not valid")]
    BadSignature,
    /// No such upload or video, or none the caller may know of.
    #[error("upload not found")]
    NotFound,
    /// The upload's state does not allow the command.
    #[error("an upload that is {status} cannot {command}")]
    WrongState {
        /// The state it is in.
        status: UploadStatus,
        /// What was asked, as a verb.
        command: &'static str,
    },
    /// Its time is over.
    #[error("upload has expired")]
    Expired,
    /// Whole bytes were recorded before; the URL is spent.
    #[error("upload has its bytes already")]
    AlreadyReceived,
    /// Completed before all bytes were there.
    #[error("upload has no bytes yet")]
    NoBytes,
    /// Completed before all parts were in the bucket.
    #[error("{count} parts are missing, the first of them is number {first}")]
    PartsMissing {
        /// The lowest number that is missing.
        first: u32,
        /// How many are.
        count: u32,
    },
    /// The owner's storage quota does not hold this upload.
    #[error("quota exceeded: {used_bytes} of {quota_bytes} bytes used")]
    QuotaExceeded {
        /// Reserved and stored so far.
        used_bytes: u64,
        /// The most there may be.
        quota_bytes: u64,
    },
    /// More uploads of one video are open than may be.
    #[error("too many open uploads")]
    TooManyOpen,
    /// The bytes differ in number from what was declared.
    #[error("received {received} bytes, {declared} were declared")]
    SizeMismatch {
        /// Declared when the upload was opened.
        declared: u64,
        /// Received; when more was sent than declared, the count at which reading stopped.
        received: u64,
    },
    /// The bytes have another SHA-256 than was declared.
    #[error("checksum differs from the declared one")]
    ChecksumMismatch,
    /// The sender broke off; what arrived was dropped and may be sent again.
    #[error("sender broke off")]
    BrokenOff(#[source] crate::store::BoxError),
    /// The client goes on where the upload does not.
    #[error("upload goes on at byte {current}")]
    OffsetMismatch {
        /// Where it goes on.
        current: u64,
    },
    /// The length was declared before, and differently.
    #[error("length was declared as {declared} bytes")]
    LengthDeclared {
        /// The length.
        declared: u64,
    },
    /// The file is larger than this platform takes.
    #[error("at most {max_size_bytes} bytes are taken")]
    TooLarge {
        /// The most.
        max_size_bytes: u64,
    },
    /// Another request appends to the same upload.
    #[error("another request appends to this upload")]
    Superseded,
    /// The upload is of a kind that takes no bytes this way.
    #[error("an upload of the kind {kind} cannot {command}", kind = kind.as_str())]
    WrongKind {
        /// Its kind.
        kind: UploadKind,
        /// What was asked, as a verb.
        command: &'static str,
    },
    /// A part that is to be joined is missing, is not one, or is not whole.
    #[error("part {position} cannot be joined")]
    BadPart {
        /// Its place in the list, from 0.
        position: usize,
    },
    /// A file of this machine cannot be read.
    #[error("file cannot be read")]
    File(#[source] std::io::Error),
    /// The lease under which the caller works is no longer held; nothing was written.
    #[error("lease is no longer held")]
    Fenced,
    /// The object store did not answer or refused.
    #[error(transparent)]
    Object(#[from] objects::ObjectError),
    /// The store did not carry the command out.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A verified source, ready to be committed.
#[derive(Debug, Clone)]
pub struct CommitSource {
    /// The attempt that verified it.
    pub fence: Fence,
    /// The upload it came by.
    pub upload: UploadId,
    /// The source's row.
    pub source: Source,
    /// The pinned object.
    pub object: NewObject,
    /// Now.
    pub now: Timestamp,
}

/// What one user's uploads and sources take up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StorageUsage {
    /// Bytes of stored sources.
    pub stored_bytes: u64,
    /// Bytes reserved by uploads that are open or being verified.
    pub reserved_bytes: u64,
}

/// Uploads as rows.
///
/// # Contract
/// * Quota is reserved by `create_upload` in its own transaction, so parallel calls cannot pass it.
/// * `record_received` is a compare-and-set: of two whole deliveries one wins.
/// * Of an upload that takes bytes in several requests, one writer at a time may move the offset: whoever began last.
///   The offset moves with the rows of the segments that hold the bytes, and never beyond the length.
/// * Whether an upload still takes bytes, or its completion, is judged by the store's own time, when the
///   command is carried out: a caller may have been held up on its way.
/// * A video that does not match `owner` is [`UploadError::NotFound`], like one that does not exist.
#[async_trait]
pub trait UploadStore: Send + Sync {
    /// Opens an upload for a video of `new.user`.
    ///
    /// # Errors
    /// [`UploadError::NotFound`], [`UploadError::QuotaExceeded`], [`UploadError::TooManyOpen`].
    async fn create_upload(&self, new: NewUpload, causes: Causes) -> Result<Outcome<Upload>, UploadError>;

    /// The upload with this id.
    async fn upload(&self, id: UploadId) -> Result<Option<Upload>, UploadError>;

    /// Records that all bytes are in the staged object `staged_key`.
    ///
    /// # Errors
    /// [`UploadError::AlreadyReceived`], [`UploadError::WrongState`], [`UploadError::Expired`].
    async fn record_received(
        &self,
        id: UploadId,
        staged_key: String,
        size_bytes: u64,
        sha256: [u8; 32],
    ) -> Result<Upload, UploadError>;

    /// Makes the caller the one who may move the offset, and declares the length if it does so. Its own
    /// declaration stands whatever becomes of the bytes.
    ///
    /// # Errors
    /// [`UploadError::NotFound`]; [`UploadError::WrongKind`]; [`UploadError::Expired`]; [`UploadError::WrongState`];
    /// [`UploadError::Invalid`] for a length below the offset, [`UploadError::SizeMismatch`],
    /// [`UploadError::OffsetMismatch`], [`UploadError::LengthDeclared`], [`UploadError::TooLarge`] and
    /// [`UploadError::QuotaExceeded`], after which an earlier writer goes on.
    async fn begin_append(&self, command: BeginAppend) -> Result<Appending, UploadError>;

    /// Acknowledges durable bytes. The last ones of an upload that is no part move it `open → verifying`;
    /// then, and only then, the causes are written.
    ///
    /// # Errors
    /// [`UploadError::Superseded`] if the writer is another one by now, and [`UploadError::NotFound`],
    /// [`UploadError::Expired`], [`UploadError::WrongState`], [`UploadError::QuotaExceeded`]: nothing is written.
    async fn record_append(&self, command: RecordAppend, causes: Causes) -> Result<Upload, UploadError>;

    /// Joins whole parts of the user's, in their order: they are `used`, and the new upload, whose bytes they
    /// are, is `verifying`. The causes carry the `verify` job.
    ///
    /// # Errors
    /// [`UploadError::BadPart`], [`UploadError::TooLarge`], [`UploadError::NotFound`],
    /// [`UploadError::QuotaExceeded`], [`UploadError::TooManyOpen`].
    async fn join_uploads(&self, command: JoinUploads, causes: Causes) -> Result<Outcome<Upload>, UploadError>;

    /// Names the bucket's id for the parts of an upload that has none yet; the upload with the id that counts, which
    /// may be that of an earlier call.
    ///
    /// # Errors
    /// [`UploadError::NotFound`], [`UploadError::WrongKind`], [`UploadError::Expired`], [`UploadError::WrongState`].
    async fn begin_parts(&self, id: UploadId, user: UserId, bucket_upload: String) -> Result<Upload, UploadError>;

    /// Those of the bucket's ids that uploads name, with where these are.
    async fn bucket_uploads(&self, ids: Vec<String>) -> Result<Vec<(String, UploadStatus)>, StoreError>;

    /// The staged objects that hold the bytes of an upload, in order; none for one that came whole.
    async fn upload_segments(&self, id: UploadId) -> Result<Vec<Segment>, UploadError>;

    /// Records what the bytes of an upload of parts come to, now that they stand in their order.
    ///
    /// # Errors
    /// [`UploadError::Fenced`], [`UploadError::NotFound`]; [`UploadError::WrongState`] if it is not being verified,
    /// [`UploadError::WrongKind`] if it did not come in parts.
    async fn record_joined(&self, fence: Fence, id: UploadId, sha256: [u8; 32]) -> Result<(), UploadError>;

    /// Moves `open → verifying`; the causes carry the `verify` job. An upload that is verifying or
    /// complete already is returned as it is, and its causes are left out.
    ///
    /// # Errors
    /// [`UploadError::NotFound`], [`UploadError::NoBytes`], [`UploadError::WrongState`], [`UploadError::Expired`].
    async fn complete_upload(&self, id: UploadId, user: UserId, causes: Causes)
    -> Result<Outcome<Upload>, UploadError>;

    /// Moves `open → aborted`.
    ///
    /// # Errors
    /// [`UploadError::NotFound`], [`UploadError::WrongState`].
    async fn abort_upload(
        &self,
        id: UploadId,
        user: UserId,
        now: Timestamp,
        causes: Causes,
    ) -> Result<Outcome<Upload>, UploadError>;

    /// Moves `verifying → complete`, makes the source current, cancels what processed the one before,
    /// and makes the video `uploaded`; the causes carry the `process` job, which is left out while the
    /// video is in the trash.
    ///
    /// # Errors
    /// [`UploadError::Fenced`]; [`UploadError::NotFound`] if the video is gone;
    /// [`UploadError::WrongState`] if the upload is not being verified.
    async fn commit_source(&self, command: CommitSource, causes: Causes) -> Result<(), UploadError>;

    /// Moves `verifying → rejected` with a reason for a person.
    ///
    /// # Errors
    /// [`UploadError::Fenced`], [`UploadError::NotFound`]; [`UploadError::WrongState`] if the upload is
    /// not being verified: a committed one keeps its bytes.
    async fn reject_upload(
        &self,
        fence: Fence,
        id: UploadId,
        reason: String,
        now: Timestamp,
    ) -> Result<(), UploadError>;

    /// Up to `limit` open uploads whose time ended before `before`, longest ago first. They take no more
    /// bytes and no longer count against the quota of a new upload.
    async fn expired_uploads(&self, before: Timestamp, limit: u16) -> Result<Vec<UploadId>, UploadError>;

    /// Moves `open → expired` if its time ended by `now`; `false` if it is in another state or has time left.
    ///
    /// # Errors
    /// [`UploadError::NotFound`].
    async fn expire_upload(&self, id: UploadId, now: Timestamp) -> Result<bool, UploadError>;

    /// What the user's uploads and sources take up; an open upload counts until it is moved to `expired`.
    async fn storage_usage(&self, user: UserId) -> Result<StorageUsage, UploadError>;

    /// The row of an object that is visible.
    async fn object(&self, key: &str) -> Result<Option<NewObject>, StoreError>;
}

impl From<signed_url::SignatureError> for UploadError {
    fn from(error: signed_url::SignatureError) -> Self {
        match error {
            signed_url::SignatureError::Expired => Self::Expired,
            signed_url::SignatureError::Invalid => Self::BadSignature,
        }
    }
}
