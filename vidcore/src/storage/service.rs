//! Uploads: opening them, taking their bytes, completing them.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::auth::Actor;
use crate::clock::Timestamp;
use crate::id::{JobId, UploadId, UserId, VideoId};
use crate::idempotency::IdempotencyKey;
use crate::invalid::FieldProblem;
use crate::jobs::{FollowUp, NewJob, UPLOADS_QUEUE};
use crate::platform::parts::Parts;
use crate::storage::multipart::give_up_parts;
use crate::storage::objects::ObjectError;
use crate::storage::resumable::writers::Writers;
use crate::storage::signed_url::UploadUrlSigner;
use crate::storage::staging::Staging;
use crate::storage::verify::{GIVE_UP_UPLOAD, VERIFY_UPLOAD, VerifyPayload};
use crate::storage::{NewUpload, StorageUsage, Upload, UploadError, UploadKind, UploadStatus};
use crate::store::{Causes, Outcome};

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
    pub(super) signer: UploadUrlSigner,
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
        self.settle_own(actor, id).await?;
        let outcome = self.parts.store.abort_upload(id, actor.user, self.parts.now(), causes).await?;
        // As its row is now: parts may have been begun meanwhile, and none can be any more.
        let (Outcome::Done(upload) | Outcome::Replayed { value: upload, .. }) = &outcome;
        self.clear_staging(id, Some(upload)).await;
        Ok(outcome.map(|upload| self.show(upload)))
    }

    /// Stops whoever appends to an upload of the actor's: nobody writes into a folder that is about to go.
    async fn settle_own(&self, actor: &Actor, id: UploadId) -> Result<(), UploadError> {
        if self.parts.store.upload(id).await?.is_some_and(|upload| upload.user == actor.user) {
            self.writers.settle(id).await;
        }
        Ok(())
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

/// Where the bytes of an upload are until they are verified.
pub(crate) fn staging_prefix(id: UploadId) -> String {
    format!("staging/{id}")
}
