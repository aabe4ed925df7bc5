//! All bytes in one delivery: let in by a signed URL, streamed, recorded.

use bytes::Bytes;
use futures_util::Stream;
use tokio_util::sync::CancellationToken;

use crate::auth::Actor;
use crate::clock::Timestamp;
use crate::entropy::EntropyExt;
use crate::id::UploadId;
use crate::storage::objects::{ObjectError, Written};
use crate::storage::service::{UploadSignature, UploadView, Uploads, staging_prefix};
use crate::storage::staging::intake::{Intake, Pause, Sink, Until};
use crate::storage::staging::{RunningHash, StartAt};
use crate::storage::{Upload, UploadError, UploadKind, UploadStatus};
use crate::store::BoxError;

impl Uploads {
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
