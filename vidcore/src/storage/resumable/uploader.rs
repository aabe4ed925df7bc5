//! Who goes on with a resumable upload.
//!
//! Access tokens live for minutes and uploads for days, and many clients send the headers they were started with. So the
//! URL of an upload is a permission by itself: to bring this upload's bytes, to ask how far it is, and to join it. It
//! reaches no other upload, gives nothing up, and ends with the longest life an upload can have.

use std::time::Duration;

use crate::auth::Actor;
use crate::id::{UploadId, UserId};
use crate::storage::resumable::MAX_PARTS;
use crate::storage::resumable::append::LONGEST_LIFE;
use crate::storage::service::{UploadSignature, Uploads};
use crate::storage::{Upload, UploadError};

/// Whose uploads are gone on with, and whether they do so themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uploader {
    pub(super) user: UserId,
    pub(super) is_owner: bool,
}

impl From<&Actor> for Uploader {
    fn from(actor: &Actor) -> Self {
        Self { user: actor.user, is_owner: true }
    }
}

impl Uploads {
    /// The signed query of an upload's URL, without a question mark. Holds a secret: keep it out of logs.
    pub fn resume_query(&self, upload: &Upload) -> String {
        let ttl = Duration::from_secs(self.parts.settings.uploads.ttl_s);
        self.resuming.sign(upload.id, upload.created_at.plus(ttl.saturating_mul(LONGEST_LIFE)))
    }

    /// Whoever holds the signed URL of a resumable upload.
    ///
    /// # Errors
    /// [`UploadError::BadSignature`], [`UploadError::Expired`], [`UploadError::NotFound`].
    pub async fn holder(&self, id: UploadId, signature: &UploadSignature) -> Result<Uploader, UploadError> {
        let UploadSignature { expires, kid, signature } = signature;
        self.resuming.verify(id, *expires, kid, signature, self.parts.now())?;
        let upload = self.parts.store.upload(id).await?.filter(|upload| upload.kind.is_resumable());
        let Upload { user, .. } = upload.ok_or(UploadError::NotFound)?;
        Ok(Uploader { user, is_owner: false })
    }

    /// Whoever holds the signed URLs of all these parts, which have to be of one owner.
    ///
    /// # Errors
    /// As [`holder`](Self::holder), and [`UploadError::BadPart`].
    pub async fn holder_of_all(&self, parts: &[(UploadId, UploadSignature)]) -> Result<Uploader, UploadError> {
        if parts.len() > MAX_PARTS {
            return Err(UploadError::BadPart { position: MAX_PARTS });
        }
        let mut found = None;
        for (position, (id, signature)) in parts.iter().enumerate() {
            let holder = self.holder(*id, signature).await.map_err(|error| match error {
                UploadError::NotFound => UploadError::BadPart { position },
                error => error,
            })?;
            if found.replace(holder).is_some_and(|before| before != holder) {
                return Err(UploadError::BadPart { position });
            }
        }
        found.ok_or(UploadError::BadPart { position: 0 })
    }
}
