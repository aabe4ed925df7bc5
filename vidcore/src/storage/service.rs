//! Uploads: opening them, taking their bytes, completing them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::auth::Actor;
use crate::clock::Timestamp;
use crate::entropy::EntropyExt;
use crate::id::{JobId, UploadId, UserId, VideoId};
use crate::idempotency::IdempotencyKey;
use crate::invalid::FieldProblem;
use crate::jobs::{FollowUp, NewJob, UPLOADS_QUEUE};
use crate::platform::parts::Parts;
use crate::storage::multipart::give_up_parts;
use crate::storage::objects::{ObjectError, Written};
use crate::storage::resumable::writers::Writers;
use crate::storage::signed_url::UploadUrlSigner;
use crate::storage::staging::intake::{Intake, Pause, Sink, Until};
use crate::storage::staging::{RunningHash, Staging, StartAt};
use crate::storage::verify::{GIVE_UP_UPLOAD, VERIFY_UPLOAD, VerifyPayload};
use crate::storage::{NewUpload, StorageUsage, Upload, UploadError, UploadKind, UploadStatus};
use crate::store::{BoxError, Causes, Outcome};

/// How long after its time an upload is cleared: a call that was let in just before is over by then.
const EXPIRY_MARGIN: Duration = Duration::from_secs(60);

/// The most uploads cleared at once; the next round goes on.
const EXPIRED_AT_ONCE: u16 = 100;

/// What an upload is opened with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenUpload {
    /// The file's exact size, at least 1.
    pub size_bytes: u64,
    /// The file's SHA-256, to be checked when the bytes are there.
    pub sha256: Option<[u8; 32]>,
}

/// The signed query of an upload URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadSignature {
    /// Until when the URL works, in seconds since 1970-01-01.
    pub expires: i64,
    /// Which key signed it.
    pub kid: String,
    /// The signature, base64url.
    pub signature: String,
}

/// An upload as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UploadView {
    /// Its id.
    pub id: UploadId,
    /// The video it is for; `null` for a part that is to be joined with others.
    pub video_id: Option<VideoId>,
    /// How its bytes come.
    pub kind: UploadKind,
    /// Where it is on its way.
    pub status: UploadStatus,
    /// How many bytes were declared; `null` while that is deferred.
    pub size_bytes: Option<u64>,
    /// How many bytes are there for good.
    pub offset_bytes: u64,
    /// Whether all bytes are there.
    pub received: bool,
    /// Bytes of each part but the last, of an upload of the kind `multipart`.
    pub part_size_bytes: Option<u64>,
    /// How many parts it has.
    pub part_count: Option<u32>,
    /// SHA-256 of the received bytes, 64 hexadecimal digits; of a joined or multipart upload once its parts are joined.
    pub sha256: Option<String>,
    /// Why it was rejected.
    pub reason: Option<String>,
    /// Path to `PUT` the bytes to, once; `null` when no bytes are taken any more.
    pub upload_url: Option<String>,
    /// When it was opened.
    pub created_at: Timestamp,
    /// Until when bytes are taken.
    pub expires_at: Timestamp,
}

/// What an account's files take up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UsageView {
    /// Bytes of stored sources.
    pub stored_bytes: u64,
    /// Bytes reserved by uploads that are open or being verified.
    pub reserved_bytes: u64,
    /// The most both together may be.
    pub quota_bytes: u64,
}

/// Uploads. Reached through `Platform::uploads`.
#[derive(Debug, Clone)]
pub struct Uploads {
    pub(super) parts: Arc<Parts>,
    pub(super) staging: Arc<dyn Staging>,
    pub(crate) writers: Arc<Writers>,
    signer: UploadUrlSigner,
    pub(super) resuming: UploadUrlSigner,
}

impl Uploads {
    pub(crate) fn new(parts: Arc<Parts>) -> Self {
        let signer = UploadUrlSigner::new(parts.keys.clone());
        let resuming = UploadUrlSigner::resuming(parts.keys.clone());
        let staging = parts.objects.staging();
        Self { parts, staging, writers: Arc::default(), signer, resuming }
    }

    /// Opens an upload for a video of the actor's and reserves its size.
    ///
    /// # Errors
    /// [`UploadError::Invalid`] for a size of 0 or above the limit, [`UploadError::NotFound`],
    /// [`UploadError::QuotaExceeded`], [`UploadError::TooManyOpen`].
    pub async fn open(
        &self,
        actor: &Actor,
        video: VideoId,
        input: OpenUpload,
        key: Option<IdempotencyKey>,
    ) -> Result<Outcome<UploadView>, UploadError> {
        self.open_as(actor, video, input, None, key).await
    }

    /// The same, in parts of `part_size_bytes` if they are to come as such.
    pub(super) async fn open_as(
        &self,
        actor: &Actor,
        video: VideoId,
        input: OpenUpload,
        part_size_bytes: Option<u64>,
        key: Option<IdempotencyKey>,
    ) -> Result<Outcome<UploadView>, UploadError> {
        let settings = &self.parts.settings.uploads;
        if input.size_bytes == 0 || input.size_bytes > settings.max_size_bytes {
            let message = format!("between 1 and {} bytes", settings.max_size_bytes);
            return Err(UploadError::Invalid(vec![FieldProblem::new("/size_bytes", message)]));
        }
        let now = self.parts.now();
        let new = NewUpload {
            id: UploadId::new(now, &*self.parts.entropy),
            video: Some(video),
            user: actor.user,
            kind: if part_size_bytes.is_some() { UploadKind::Multipart } else { UploadKind::Whole },
            part_size_bytes,
            size_bytes: Some(input.size_bytes),
            declared_sha256: input.sha256,
            metadata: None,
            concatenation: None,
            draft: None,
            now,
            expires_at: now.plus(Duration::from_secs(settings.ttl_s)),
            quota_bytes: settings.quota_bytes,
            max_open: settings.max_open_per_video,
        };
        let causes = Causes::none().idempotent(self.parts.remember(key));
        Ok(self.parts.store.create_upload(new, causes).await?.map(|upload| self.show(upload)))
    }

    /// An upload of the actor's.
    ///
    /// # Errors
    /// [`UploadError::NotFound`].
    pub async fn read(&self, actor: &Actor, id: UploadId) -> Result<UploadView, UploadError> {
        let upload = self.parts.store.upload(id).await?.filter(|upload| upload.user == actor.user);
        upload.map(|upload| self.show(upload)).ok_or(UploadError::NotFound)
    }

    /// Checks a signed URL before any byte is read, and that the upload still takes bytes.
    ///
    /// # Errors
    /// [`UploadError::BadSignature`], [`UploadError::Expired`], [`UploadError::AlreadyReceived`],
    /// [`UploadError::WrongState`], and [`UploadError::SizeMismatch`] if `announced` differs.
    pub async fn admit(
        &self,
        id: UploadId,
        signature: &UploadSignature,
        announced: Option<u64>,
    ) -> Result<Upload, UploadError> {
        let now = self.parts.now();
        self.signer.verify(id, signature.expires, &signature.kid, &signature.signature, now)?;
        let upload = self.parts.store.upload(id).await?.ok_or(UploadError::NotFound)?;
        takes_bytes(&upload, now)?;
        match announced {
            Some(received) if received != upload.size_bytes => {
                Err(UploadError::SizeMismatch { declared: upload.size_bytes, received })
            }
            _ => Ok(upload),
        }
    }

    /// Admits an upload of the actor's whose bytes this very program brings, without a signed URL.
    ///
    /// # Errors
    /// [`UploadError::NotFound`], [`UploadError::Expired`], [`UploadError::AlreadyReceived`],
    /// [`UploadError::WrongState`].
    pub async fn admit_own(&self, actor: &Actor, id: UploadId) -> Result<Upload, UploadError> {
        let upload = self.parts.store.upload(id).await?.filter(|upload| upload.user == actor.user);
        let upload = upload.ok_or(UploadError::NotFound)?;
        takes_bytes(&upload, self.parts.now())?;
        Ok(upload)
    }

    /// Takes the bytes of an admitted upload: streamed to a private object, hashed on the way, then
    /// recorded. Of two whole deliveries one wins; a broken one may be repeated.
    ///
    /// # Errors
    /// [`UploadError::BrokenOff`], [`UploadError::SizeMismatch`], [`UploadError::ChecksumMismatch`],
    /// [`UploadError::AlreadyReceived`], [`UploadError::Object`]; nothing is kept then.
    ///
    /// # Cancel safety
    /// The work goes on in a task of its own; a stream that breaks ends it and leaves nothing.
    pub async fn receive(
        &self,
        upload: Upload,
        bytes: impl Stream<Item = Result<Bytes, BoxError>> + Send + Unpin + 'static,
    ) -> Result<UploadView, UploadError> {
        let service = self.clone();
        let task = tokio::spawn(async move { service.receive_owned(upload, bytes).await });
        task.await.unwrap_or_else(|error| Err(UploadError::BrokenOff(error.into())))
    }

    async fn receive_owned(
        &self,
        upload: Upload,
        bytes: impl Stream<Item = Result<Bytes, BoxError>> + Send + Unpin,
    ) -> Result<UploadView, UploadError> {
        let bytes = half_way_point(bytes, upload.size_bytes);
        let (key, written) = match self.take_whole(&upload, bytes).await {
            Ok(taken) => taken,
            Err(UploadError::Object(error)) => return Err(self.why_not_kept(upload.id, error).await),
            Err(error) => return Err(error),
        };
        crate::failpoints::hit("received-before-commit");
        match self.record(&upload, &key, written).await {
            Ok(upload) => Ok(self.show(upload)),
            Err(error) => {
                self.discard(&key).await;
                Err(error)
            }
        }
    }

    /// Stages a whole delivery under a key of its own; a broken one leaves nothing.
    async fn take_whole(
        &self,
        upload: &Upload,
        bytes: impl Stream<Item = Result<Bytes, BoxError>> + Send + Unpin,
    ) -> Result<(String, Written), UploadError> {
        let prefix = staging_prefix(upload.id);
        let (nonce, room) = (self.parts.entropy.bytes(), upload.size_bytes);
        let start = StartAt { prefix, next_seq: 0, last: None, nonce, room };
        let writer = self.staging.writer(start).await?;
        let permits = self.parts.objects.hash_permits();
        let sink = Sink { writer, hash: RunningHash::default(), checksum: None, permits };
        let mut intake = Intake::new(bytes, upload.size_bytes, sink);
        let ended = match intake.run(Until::END, &CancellationToken::new()).await {
            Ok(Pause::Broken(error)) => Err(UploadError::BrokenOff(error)),
            Ok(Pause::TooLong) => {
                let declared = upload.size_bytes;
                Err(UploadError::SizeMismatch { declared, received: declared.saturating_add(1) })
            }
            Ok(Pause::Ended | Pause::Due | Pause::Stopped) => Ok(intake.taken()),
            Err(error) => Err(error.into()),
        };
        match ended {
            Ok(size_bytes) => whole(&mut intake, size_bytes).await,
            Err(error) => {
                intake.abandon().await;
                Err(error)
            }
        }
    }

    /// Giving an upload up, or its expiry, deletes its staged bytes under a delivery that is still
    /// running: what the client is to hear is that, and not that a file has vanished.
    async fn why_not_kept(&self, id: UploadId, error: ObjectError) -> UploadError {
        match self.parts.store.upload(id).await {
            Ok(Some(upload)) => takes_bytes(&upload, self.parts.now()).err().unwrap_or_else(|| error.into()),
            _ => error.into(),
        }
    }

    async fn record(&self, upload: &Upload, key: &str, written: Written) -> Result<Upload, UploadError> {
        if written.size_bytes != upload.size_bytes {
            return Err(UploadError::SizeMismatch { declared: upload.size_bytes, received: written.size_bytes });
        }
        if upload.declared_sha256.is_some_and(|declared| declared != written.sha256) {
            return Err(UploadError::ChecksumMismatch);
        }
        let store = &self.parts.store;
        store.record_received(upload.id, key.to_owned(), written.size_bytes, written.sha256).await
    }

    async fn discard(&self, key: &str) {
        if let Err(error) = self.parts.objects.delete(key).await {
            tracing::warn!(%error, "a staged object could not be deleted");
        }
    }

    /// Says that all bytes are there: a job checks them and makes them the video's source. Calling it
    /// again changes nothing.
    ///
    /// # Errors
    /// [`UploadError::NotFound`], [`UploadError::NoBytes`], [`UploadError::PartsMissing`], [`UploadError::Expired`],
    /// [`UploadError::WrongState`], [`UploadError::Object`].
    pub async fn complete(
        &self,
        actor: &Actor,
        id: UploadId,
        key: Option<IdempotencyKey>,
    ) -> Result<Outcome<UploadView>, UploadError> {
        let now = self.parts.now();
        let upload = self.parts.store.upload(id).await?.filter(|upload| upload.user == actor.user);
        let upload = upload.ok_or(UploadError::NotFound)?;
        if let (Some(multipart), UploadStatus::Open) = (&upload.multipart, upload.status) {
            self.demand_parts(&upload, multipart).await?;
        }
        let Upload { user, video, .. } = upload;
        let job = verify_job(&self.parts, id, user, video, now);
        let causes = Causes::none().idempotent(self.parts.remember(key)).job(job);
        let outcome = self.parts.store.complete_upload(id, actor.user, causes).await?;
        Ok(outcome.map(|upload| self.show(upload)))
    }

    /// Gives an open upload up; its reservation is free at once.
    ///
    /// # Errors
    /// [`UploadError::NotFound`], [`UploadError::WrongState`].
    pub async fn abort(
        &self,
        actor: &Actor,
        id: UploadId,
        key: Option<IdempotencyKey>,
    ) -> Result<Outcome<UploadView>, UploadError> {
        let causes = Causes::none().idempotent(self.parts.remember(key));
        let upload = self.settle_own(actor, id).await?;
        let outcome = self.parts.store.abort_upload(id, actor.user, self.parts.now(), causes).await?;
        self.clear_staging(id, upload.as_ref()).await;
        Ok(outcome.map(|upload| self.show(upload)))
    }

    /// Stops whoever appends to an upload of the actor's: nobody writes into a folder that is about to go.
    async fn settle_own(&self, actor: &Actor, id: UploadId) -> Result<Option<Upload>, UploadError> {
        let upload = self.parts.store.upload(id).await?.filter(|upload| upload.user == actor.user);
        if upload.is_some() {
            self.writers.settle(id).await;
        }
        Ok(upload)
    }

    /// What the actor's files take up.
    ///
    /// # Errors
    /// [`UploadError::Store`].
    pub async fn usage(&self, actor: &Actor) -> Result<UsageView, UploadError> {
        let StorageUsage { stored_bytes, reserved_bytes } = self.parts.store.storage_usage(actor.user).await?;
        Ok(UsageView { stored_bytes, reserved_bytes, quota_bytes: self.parts.settings.uploads.quota_bytes })
    }

    /// Moves uploads whose time is over to `expired` and deletes what had come of them; whether there may be
    /// more of them.
    pub(crate) async fn expire(&self) -> Result<bool, UploadError> {
        let now = self.parts.now();
        let over = self.parts.store.expired_uploads(now.minus(EXPIRY_MARGIN), EXPIRED_AT_ONCE).await?;
        let is_full = over.len() == usize::from(EXPIRED_AT_ONCE);
        let mut is_progress = false;
        for id in over {
            // One that cannot be expired now must not keep the others back.
            match self.expire_one(id, now).await {
                Ok(()) => is_progress = true,
                Err(error) => tracing::warn!(%error, upload.id = %id, "an upload could not be expired"),
            }
        }
        // Where none could be expired, another round would find the same ones.
        Ok(is_full && is_progress)
    }

    async fn expire_one(&self, id: UploadId, now: Timestamp) -> Result<(), UploadError> {
        // The row goes first: whoever completes the upload before that keeps its bytes, and nobody does
        // after. What a crash in between leaves, or a deletion that fails, is taken by the collection.
        if self.parts.store.expire_upload(id, now).await? {
            self.clear_staging(id, self.parts.store.upload(id).await?.as_ref()).await;
        }
        Ok(())
    }

    async fn clear_staging(&self, id: UploadId, upload: Option<&Upload>) {
        if let Some(upload) = upload {
            give_up_parts(&self.parts.objects, upload).await;
        }
        match self.parts.objects.delete_under(&staging_prefix(id)).await {
            Ok(()) | Err(ObjectError::NotFound) => {}
            Err(error) => tracing::warn!(%error, upload.id = %id, "staged bytes could not be deleted"),
        }
    }

    /// An upload as its owner sees it.
    pub fn show(&self, upload: Upload) -> UploadView {
        let is_received = match upload.kind {
            // Until then the bucket alone knows.
            UploadKind::Multipart => matches!(upload.status, UploadStatus::Verifying | UploadStatus::Complete),
            _ => upload.is_received(),
        };
        let takes_bytes = upload.status == UploadStatus::Open && upload.kind == UploadKind::Whole && !is_received;
        let upload_url = takes_bytes.then(|| {
            let query = self.signer.sign(upload.id, upload.expires_at);
            self.parts.links.upload_bytes(upload.id, &query)
        });
        UploadView {
            id: upload.id,
            video_id: upload.video,
            kind: upload.kind,
            status: upload.status,
            size_bytes: (!upload.length_deferred).then_some(upload.size_bytes),
            offset_bytes: if is_received { upload.size_bytes } else { upload.offset_bytes },
            received: is_received,
            part_size_bytes: upload.multipart.as_ref().map(|parts| parts.part_size_bytes),
            part_count: upload.multipart.as_ref().map(|parts| parts.count(upload.size_bytes)),
            sha256: upload.received_sha256.map(hex::encode),
            reason: upload.reason,
            upload_url,
            created_at: upload.created_at,
            expires_at: upload.expires_at,
        }
    }
}

/// Makes a whole delivery durable: its one segment is the staged object.
async fn whole<S>(intake: &mut Intake<S>, size_bytes: u64) -> Result<(String, Written), UploadError>
where
    S: Stream<Item = Result<Bytes, BoxError>> + Send + Unpin,
{
    let sink = intake.sink();
    let sha256 = sink.hash.digest();
    match sink.writer.commit().await?.pop() {
        Some(segment) => Ok((segment.key, Written { size_bytes, sha256 })),
        // Not a byte came; at least one was declared.
        None => Err(UploadError::NoBytes),
    }
}

/// The job that verifies a received upload. At most one is live for each. It is tried more often than others: what
/// ends it is the end of the only copy of somebody's file.
pub(crate) fn verify_job(
    parts: &Parts,
    upload: UploadId,
    user: UserId,
    video: Option<VideoId>,
    now: Timestamp,
) -> NewJob {
    let payload = json!(VerifyPayload { upload });
    let job = JobId::new(now, &*parts.entropy);
    NewJob {
        max_attempts: parts.settings.uploads.verify_attempts,
        unique_key: Some(format!("{VERIFY_UPLOAD}:{upload}")),
        owner: Some(user),
        video,
        on_dead: Some(FollowUp {
            id: JobId::new(now, &*parts.entropy),
            queue: None,
            kind: GIVE_UP_UPLOAD.to_owned(),
            payload: payload.clone(),
            max_attempts: 50,
        }),
        ..NewJob::new(job, UPLOADS_QUEUE, VERIFY_UPLOAD, payload, now)
    }
}

/// Whether the upload still waits for bytes.
fn takes_bytes(upload: &Upload, now: Timestamp) -> Result<(), UploadError> {
    if upload.kind != UploadKind::Whole {
        return Err(UploadError::WrongKind { kind: upload.kind, command: "take all bytes at once" });
    }
    if upload.staged_key.is_some() {
        return Err(UploadError::AlreadyReceived);
    }
    match upload.status {
        UploadStatus::Open if upload.expires_at > now => Ok(()),
        UploadStatus::Open | UploadStatus::Expired => Err(UploadError::Expired),
        status => Err(UploadError::WrongState { status, command: "take bytes" }),
    }
}

/// Where the bytes of an upload are until they are verified.
pub(crate) fn staging_prefix(id: UploadId) -> String {
    format!("staging/{id}")
}

/// Lets a test kill the process once half of the bytes have come.
fn half_way_point(
    bytes: impl Stream<Item = Result<Bytes, BoxError>> + Send + Unpin,
    size_bytes: u64,
) -> impl Stream<Item = Result<Bytes, BoxError>> + Send + Unpin {
    use futures_util::StreamExt;
    let mut seen = 0;
    bytes.inspect(move |chunk| {
        seen += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        if seen * 2 >= size_bytes {
            crate::failpoints::hit("upload-half-way");
        }
    })
}
