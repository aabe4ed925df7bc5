//! Uploads whose bytes come in as many requests as it takes, and uploads that are joined of others.
//!
//! What every request finds is the offset: the bytes before it are durable, and what comes next begins there. Whoever asks
//! last may append; the one before keeps what it had.

use bytes::Bytes;
use futures_util::Stream;

use crate::auth::Actor;
use crate::catalog::input::title_of;
use crate::catalog::{NewVideo, Visibility};
use crate::clock::Timestamp;
use crate::entropy::EntropyExt;
use crate::id::{UploadId, UserId, VideoId};
use crate::invalid::FieldProblem;
use crate::storage::service::{Uploads, verify_job};
use crate::storage::{BeginAppend, Checksum, JoinUploads, NewUpload, Upload, UploadError, UploadKind, UploadStatus};
use crate::store::{BoxError, Causes, Outcome};

mod append;
mod uploader;
pub(crate) mod writers;

pub use uploader::Uploader;

/// The most parts that may be joined into one upload.
pub const MAX_PARTS: usize = 256;

/// The title of a draft that was made along with an upload and of which nothing else is known.
const UNTITLED: &str = "Untitled";

/// What an upload is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UploadTarget {
    /// A video of the actor's.
    Video(VideoId),
    /// A private draft that is made along with it. The name may be any text, or none.
    NewDraft(Option<String>),
    /// Joining with others.
    Part,
}

/// What a resumable upload is opened with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenResumable {
    /// What it is for.
    pub target: UploadTarget,
    /// The file's exact size, at least 1; `None` to declare it later.
    pub length: Option<u64>,
    /// How many bytes are announced to come along with it, if any are and their number is known.
    pub announced: Option<u64>,
    /// What the client says about the file, to be given back word for word.
    pub metadata: Option<String>,
    /// How the client says that it is a part, to be given back word for word.
    pub concatenation: Option<String>,
}

/// What parts are joined with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinParts {
    /// What the whole is for; parts cannot be joined into a part.
    pub target: UploadTarget,
    /// The parts, in order; at most [`MAX_PARTS`].
    pub parts: Vec<UploadId>,
    /// What the client says about the file, to be given back word for word.
    pub metadata: Option<String>,
    /// How the client says of what it is joined, to be given back word for word.
    pub concatenation: Option<String>,
}

/// What a client wants to append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendBytes {
    /// Where it goes on; it has to be the upload's offset.
    pub offset: u64,
    /// The file's exact size, if that is declared only now.
    pub length: Option<u64>,
    /// How many bytes are announced to come, if that is known.
    pub announced: Option<u64>,
    /// What they come to, all together: if they do not, none of them counts.
    pub checksum: Option<Checksum>,
}

impl Uploads {
    /// Opens an upload whose bytes are appended, and reserves its length. With its last byte it is complete by
    /// itself, unless it is a part.
    ///
    /// # Errors
    /// [`UploadError::Invalid`] for a length of 0, [`UploadError::TooLarge`], [`UploadError::SizeMismatch`] where
    /// more is announced than the length, [`UploadError::NotFound`],
    /// [`UploadError::QuotaExceeded`], [`UploadError::TooManyOpen`].
    pub async fn open_resumable(&self, actor: &Actor, input: OpenResumable) -> Result<Upload, UploadError> {
        let settings = &self.parts.settings.uploads;
        if input.length == Some(0) {
            return Err(UploadError::Invalid(vec![FieldProblem::new("/length", "at least 1 byte")]));
        }
        if input.length.is_some_and(|length| length > settings.max_size_bytes) {
            return Err(UploadError::TooLarge { max_size_bytes: settings.max_size_bytes });
        }
        match (input.length, input.announced.unwrap_or(0)) {
            (Some(declared), received) if received > declared => {
                return Err(UploadError::SizeMismatch { declared, received });
            }
            (None, received) if received > settings.max_size_bytes => {
                return Err(UploadError::TooLarge { max_size_bytes: settings.max_size_bytes });
            }
            _ => {}
        }
        let (is_part, length) = (input.target == UploadTarget::Part, input.length);
        let new = NewUpload {
            kind: if is_part { UploadKind::Part } else { UploadKind::Resumable },
            size_bytes: length,
            max_open: if is_part { settings.max_open_parts } else { settings.max_open_per_video },
            ..self.new_upload(actor.user, input.target, input.metadata, input.concatenation)
        };
        Ok(self.parts.store.create_upload(new, Causes::none()).await?.into_inner())
    }

    /// Joins parts into one upload, which is complete by that.
    ///
    /// # Errors
    /// [`UploadError::BadPart`] for one that is missing, another's, not whole or named twice, and
    /// if there are none or too many; [`UploadError::TooLarge`]; [`UploadError::NotFound`] also for every video where
    /// the parts' URLs are all that the uploader has; [`UploadError::QuotaExceeded`], [`UploadError::TooManyOpen`].
    pub async fn join(&self, who: impl Into<Uploader>, input: JoinParts) -> Result<Upload, UploadError> {
        let who = who.into();
        if !who.is_owner && matches!(input.target, UploadTarget::Video(_)) {
            return Err(UploadError::NotFound);
        }
        if input.parts.len() > MAX_PARTS {
            return Err(UploadError::BadPart { position: MAX_PARTS });
        }
        let new = NewUpload {
            kind: UploadKind::Joined,
            ..self.new_upload(who.user, input.target, input.metadata, input.concatenation)
        };
        let (id, user, video, now) = (new.id, new.user, new.video, new.now);
        let job = verify_job(&self.parts, id, user, video, now);
        let max_size_bytes = self.parts.settings.uploads.max_size_bytes;
        let command = JoinUploads { new, parts: input.parts, max_size_bytes };
        Ok(self.parts.store.join_uploads(command, Causes::none().job(job)).await?.into_inner())
    }

    /// An upload of the uploader's whose bytes are appended or joined. Whoever appends to it in this process is asked
    /// to stop first: a client asks when it has lost its connection, and its next bytes begin at the offset it is told.
    ///
    /// # Errors
    /// [`UploadError::NotFound`]; [`UploadError::Expired`] if it takes no more bytes by now or was given up.
    pub async fn resumable(&self, who: impl Into<Uploader>, id: UploadId) -> Result<Upload, UploadError> {
        let user = who.into().user;
        self.own_resumable(user, id).await?;
        self.writers.settle(id).await;
        let upload = self.own_resumable(user, id).await?;
        let is_over = match upload.status {
            UploadStatus::Open => upload.expires_at <= self.parts.now(),
            status => is_gone(status),
        };
        if is_over { Err(UploadError::Expired) } else { Ok(upload) }
    }

    /// Appends bytes where the upload's offset is. Whatever arrived before the stream broke is kept and acknowledged,
    /// unless it came under a checksum. The last byte completes an upload that is no part.
    ///
    /// # Errors
    /// Before a byte is read: [`UploadError::Invalid`] for a length below the offset, [`UploadError::NotFound`], [`UploadError::OffsetMismatch`],
    /// [`UploadError::LengthDeclared`], [`UploadError::TooLarge`], [`UploadError::SizeMismatch`],
    /// [`UploadError::QuotaExceeded`], [`UploadError::Expired`] also for one that was given up,
    /// [`UploadError::WrongState`], [`UploadError::WrongKind`]. Then: [`UploadError::ChecksumMismatch`], after which the offset is what it was;
    /// [`UploadError::BrokenOff`]; [`UploadError::Superseded`] if a later request wants to append;
    /// [`UploadError::Object`], [`UploadError::Store`].
    ///
    /// # Cancel safety
    /// The work goes on in a task of its own until the stream ends or breaks.
    pub async fn append(
        &self,
        who: impl Into<Uploader>,
        id: UploadId,
        input: AppendBytes,
        bytes: impl Stream<Item = Result<Bytes, BoxError>> + Send + Unpin + 'static,
    ) -> Result<Upload, UploadError> {
        let (settings, user) = (&self.parts.settings.uploads, who.into().user);
        let begin = BeginAppend {
            id,
            user,
            offset_bytes: input.offset,
            length: input.length,
            announced: input.announced,
            max_size_bytes: settings.max_size_bytes,
            quota_bytes: settings.quota_bytes,
            writer: self.parts.entropy.bytes(),
        };
        // Somebody else's upload is not disturbed, nor is one that would refuse these bytes.
        let upload = self.own_resumable(user, id).await?;
        if upload.status == UploadStatus::Open && upload.offset_bytes > begin.offset_bytes {
            return Err(UploadError::OffsetMismatch { current: upload.offset_bytes });
        }
        let service = self.clone();
        let task = tokio::spawn(async move { append::append(&service, begin, input.checksum, bytes).await });
        task.await.unwrap_or_else(|error| Err(UploadError::BrokenOff(error.into()))).map_err(gone)
    }

    /// Gives up an upload that is still open, with what has come of it.
    ///
    /// # Errors
    /// [`UploadError::NotFound`]; [`UploadError::Expired`] if that was done before; [`UploadError::WrongState`].
    pub async fn terminate(&self, actor: &Actor, id: UploadId) -> Result<(), UploadError> {
        self.own_resumable(actor.user, id).await?;
        self.abort(actor, id, None).await.map(Outcome::into_inner).map(|_| ()).map_err(gone)
    }

    async fn own_resumable(&self, user: UserId, id: UploadId) -> Result<Upload, UploadError> {
        let upload = self.parts.store.upload(id).await?;
        upload.filter(|upload| upload.user == user && upload.kind.is_resumable()).ok_or(UploadError::NotFound)
    }

    fn new_upload(
        &self,
        user: UserId,
        target: UploadTarget,
        metadata: Option<String>,
        concatenation: Option<String>,
    ) -> NewUpload {
        let (settings, now) = (&self.parts.settings.uploads, self.parts.now());
        let (video, draft) = match target {
            UploadTarget::Video(video) => (Some(video), None),
            UploadTarget::NewDraft(name) => {
                let draft = self.draft(user, name.as_deref(), now);
                (Some(draft.id), Some(draft))
            }
            UploadTarget::Part => (None, None),
        };
        NewUpload {
            id: UploadId::new(now, &*self.parts.entropy),
            video,
            user,
            kind: UploadKind::Resumable,
            size_bytes: None,
            declared_sha256: None,
            part_size_bytes: None,
            metadata,
            concatenation,
            draft,
            now,
            expires_at: now.plus(std::time::Duration::from_secs(settings.ttl_s)),
            quota_bytes: settings.quota_bytes,
            max_open: settings.max_open_per_video,
        }
    }

    fn draft(&self, owner: UserId, name: Option<&str>, now: Timestamp) -> NewVideo {
        NewVideo {
            id: VideoId::new(now, &*self.parts.entropy),
            owner,
            title: name.and_then(title_of).unwrap_or_else(|| UNTITLED.to_owned()),
            description: String::new(),
            tags: Vec::new(),
            visibility: Visibility::Private,
            now,
        }
    }
}

/// Whether an upload in this state is over without having become anything.
fn is_gone(status: UploadStatus) -> bool {
    matches!(status, UploadStatus::Expired | UploadStatus::Aborted)
}

/// Nobody goes on with an upload that is over, whatever ended it: what is refused for that state is so for good.
fn gone(error: UploadError) -> UploadError {
    match error {
        UploadError::WrongState { status, .. } if is_gone(status) => UploadError::Expired,
        error => error,
    }
}
