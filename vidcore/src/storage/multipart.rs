//! Files that clients put into the bucket themselves, in parts, by URLs signed for one part each.
//!
//! The bucket keeps the parts and says which are there; the row keeps whose they are and how large they must be. A part's
//! length is signed with its URL, so no more gets into the bucket than was reserved. Only the job that verifies the
//! upload joins the parts: from then on no URL leads to its bytes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::auth::Actor;
use crate::clock::Timestamp;
use crate::id::{UploadId, VideoId};
use crate::idempotency::IdempotencyKey;
use crate::invalid::FieldProblem;
use crate::storage::objects::ObjectError;
use crate::storage::objects::direct::{DirectStore, PartsOf, StoredPart, all_parts};
use crate::storage::service::{OpenUpload, UploadView, Uploads, staging_prefix};
use crate::storage::{Multipart, Objects, Upload, UploadError, UploadKind, UploadStatus};
use crate::store::Outcome;

/// The most URLs that one call signs.
pub const MOST_SIGNED: usize = 100;

/// URLs for parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SignedParts {
    /// One for each number that was asked for.
    pub items: Vec<SignedPart>,
    /// Until when the URLs work.
    pub expires_at: Timestamp,
}

/// Where to put one part.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SignedPart {
    /// Its place, from 1.
    pub number: u32,
    /// How many bytes it must have; `Content-Length` is signed.
    pub size_bytes: u64,
    /// `PUT` it there, without `Authorization`.
    pub url: String,
}

impl std::fmt::Debug for SignedPart {
    /// The URL is a permission, and stays out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignedPart").field("number", &self.number).finish_non_exhaustive()
    }
}

/// A part that is in the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PartView {
    /// Its place, from 1.
    pub number: u32,
    /// Its bytes.
    pub size_bytes: u64,
}

impl Multipart {
    /// How many parts a file of `size_bytes` has.
    pub fn count(&self, size_bytes: u64) -> u32 {
        u32::try_from(size_bytes.div_ceil(self.part_size_bytes)).unwrap_or(u32::MAX)
    }

    /// The bytes of part `number` of a file of `size_bytes`; `None` if there is no such part.
    pub fn size_of(&self, number: u32, size_bytes: u64) -> Option<u64> {
        let before = u64::from(number.checked_sub(1)?).checked_mul(self.part_size_bytes)?;
        let left = size_bytes.checked_sub(before).filter(|left| *left > 0)?;
        Some(left.min(self.part_size_bytes))
    }
}

impl Upload {
    /// Its parts in the bucket, once they were begun.
    pub(crate) fn bucket_parts(&self) -> Option<PartsOf> {
        let id = self.multipart.as_ref()?.bucket_upload.clone()?;
        Some(PartsOf { key: whole_key(self.id), id })
    }
}

/// The key under which the parts of an upload are joined.
pub(crate) fn whole_key(id: UploadId) -> String {
    format!("{}/whole", staging_prefix(id))
}

impl Uploads {
    /// Opens an upload whose parts the client puts into the bucket itself, and reserves its size.
    ///
    /// # Errors
    /// As for [`open`](Self::open); [`UploadError::Invalid`] where the platform has no bucket for that
    /// (`uploads.direct`).
    pub async fn open_multipart(
        &self,
        actor: &Actor,
        video: VideoId,
        input: OpenUpload,
        key: Option<IdempotencyKey>,
    ) -> Result<Outcome<UploadView>, UploadError> {
        if !self.parts.settings.uploads.direct || self.parts.objects.direct().is_none() {
            let problem = FieldProblem::new("/kind", "`whole`: clients of this server do not reach its bucket");
            return Err(UploadError::Invalid(vec![problem]));
        }
        let part_size_bytes = self.parts.settings.uploads.part_size(input.size_bytes);
        self.open_as(actor, video, input, Some(part_size_bytes), key).await
    }

    /// URLs to put parts to, at most [`MOST_SIGNED`]. A part may be put again, also after its URL has been signed anew.
    ///
    /// # Errors
    /// [`UploadError::Invalid`] for no number, too many, or one that is no part's; [`UploadError::NotFound`],
    /// [`UploadError::WrongKind`], [`UploadError::WrongState`], [`UploadError::Expired`], [`UploadError::Object`].
    ///
    /// # Cancel safety
    /// Dropping the future may leave parts in the bucket that were begun and belong to nobody; they are collected.
    pub async fn sign_parts(&self, actor: &Actor, id: UploadId, numbers: &[u32]) -> Result<SignedParts, UploadError> {
        let upload = self.own_multipart(actor, id).await?;
        let sizes = sizes(&upload, numbers)?;
        let direct = self.direct()?;
        let parts = self.begun(actor, upload.clone(), direct).await?;
        let now = self.parts.now();
        let life = Duration::from_secs(self.parts.settings.uploads.part_url_ttl_s).min(upload.expires_at.since(now));
        let mut items = Vec::with_capacity(sizes.len());
        for (number, size_bytes) in sizes {
            let url = direct.part_url(&parts, number, size_bytes, life).await?;
            items.push(SignedPart { number, size_bytes, url });
        }
        Ok(SignedParts { items, expires_at: now.plus(life) })
    }

    /// Parts of an open upload that are in the bucket, in order, after the number `after` (0 for the first); at most
    /// 1,000, none at the end.
    ///
    /// # Errors
    /// [`UploadError::NotFound`], [`UploadError::WrongKind`], [`UploadError::WrongState`], [`UploadError::Expired`],
    /// [`UploadError::Object`].
    pub async fn stored_parts(&self, actor: &Actor, id: UploadId, after: u32) -> Result<Vec<PartView>, UploadError> {
        let upload = self.own_multipart(actor, id).await?;
        let Some(parts) = upload.bucket_parts() else { return Ok(Vec::new()) };
        let stored = self.direct()?.parts(&parts, after).await.map_err(lost)?;
        Ok(stored.into_iter().map(|StoredPart { number, size_bytes, .. }| PartView { number, size_bytes }).collect())
    }

    /// An open upload in parts of the actor's.
    async fn own_multipart(&self, actor: &Actor, id: UploadId) -> Result<Upload, UploadError> {
        let upload = self.parts.store.upload(id).await?.filter(|upload| upload.user == actor.user);
        let upload = upload.ok_or(UploadError::NotFound)?;
        let command = "take parts";
        match upload.status {
            _ if upload.kind != UploadKind::Multipart => Err(UploadError::WrongKind { kind: upload.kind, command }),
            UploadStatus::Open if upload.expires_at > self.parts.now() => Ok(upload),
            UploadStatus::Open | UploadStatus::Expired => Err(UploadError::Expired),
            status => Err(UploadError::WrongState { status, command }),
        }
    }

    fn direct(&self) -> Result<&dyn DirectStore, UploadError> {
        let source = "uploads in parts need a bucket that clients reach".into();
        let missing = ObjectError::Unavailable { operation: "reach the bucket", source };
        Ok(self.parts.objects.direct().ok_or(missing)?)
    }

    /// Begins the parts in the bucket, once; of two calls that do so one gives its own up.
    async fn begun(&self, actor: &Actor, upload: Upload, direct: &dyn DirectStore) -> Result<PartsOf, UploadError> {
        if let Some(parts) = upload.bucket_parts() {
            return Ok(parts);
        }
        let key = whole_key(upload.id);
        let mine = PartsOf { id: direct.begin(&key).await?, key };
        crate::failpoints::hit("parts-begun");
        let named = self.parts.store.begin_parts(upload.id, actor.user, mine.id.clone()).await;
        let counts = named.as_ref().ok().and_then(Upload::bucket_parts);
        if counts.as_ref() != Some(&mine) && !matches!(named, Err(UploadError::Store(_))) {
            give_up(direct, &mine).await;
        }
        match counts {
            Some(parts) => Ok(parts),
            None => Err(named.err().unwrap_or(UploadError::NotFound)),
        }
    }

    /// Whether all parts are in the bucket as they must be.
    pub(super) async fn demand_parts(&self, upload: &Upload, multipart: &Multipart) -> Result<(), UploadError> {
        let stored = match upload.bucket_parts() {
            None => Vec::new(),
            Some(parts) => all_parts(self.direct()?, &parts).await.map_err(lost)?,
        };
        let is_there = |number: &u32| {
            let found = stored.binary_search_by_key(number, |part| part.number).ok().map(|at| stored[at].size_bytes);
            found.is_some() && found == multipart.size_of(*number, upload.size_bytes)
        };
        let mut missing = (1..=multipart.count(upload.size_bytes)).filter(|number| !is_there(number));
        match missing.next() {
            Some(first) => {
                let count = 1 + u32::try_from(missing.count()).unwrap_or(u32::MAX - 1);
                Err(UploadError::PartsMissing { first, count })
            }
            None => Ok(()),
        }
    }
}

/// An open upload whose parts the bucket does not know cannot go on: it is another bucket, or its own rules ended them.
fn lost(error: ObjectError) -> UploadError {
    match error {
        ObjectError::NotFound => UploadError::Expired,
        error => error.into(),
    }
}

/// The numbers with the bytes each part must have.
fn sizes(upload: &Upload, numbers: &[u32]) -> Result<Vec<(u32, u64)>, UploadError> {
    let invalid = |pointer: String, detail: String| UploadError::Invalid(vec![FieldProblem::new(pointer, detail)]);
    if numbers.is_empty() || numbers.len() > MOST_SIGNED {
        return Err(invalid("/numbers".to_owned(), format!("1 to {MOST_SIGNED} numbers")));
    }
    let multipart = upload.multipart.as_ref().ok_or(UploadError::NotFound)?;
    let size_of = |(at, number): (usize, &u32)| {
        let detail = || format!("1 to {}", multipart.count(upload.size_bytes));
        let size_bytes = multipart.size_of(*number, upload.size_bytes);
        size_bytes.map(|bytes| (*number, bytes)).ok_or_else(|| invalid(format!("/numbers/{at}"), detail()))
    };
    numbers.iter().enumerate().map(size_of).collect()
}

/// Gives up what an upload that has ended left in the bucket.
pub(crate) async fn give_up_parts(objects: &Objects, upload: &Upload) {
    let Some(parts) = upload.bucket_parts() else { return };
    for direct in objects.all_direct() {
        give_up(direct, &parts).await;
    }
}

async fn give_up(direct: &dyn DirectStore, parts: &PartsOf) {
    if let Err(error) = direct.abort(parts).await {
        tracing::warn!(%error, key = parts.key, "parts could not be given up; they are collected later");
    }
}

/// Makes one object of the parts, unless an earlier attempt did so.
pub(crate) async fn join_parts(objects: &Objects, upload: &Upload) -> Result<(), ObjectError> {
    let Some(parts) = upload.bucket_parts() else { return Ok(()) };
    for direct in objects.all_direct() {
        let joined = match all_parts(direct, &parts).await {
            Ok(stored) if stored.is_empty() => continue,
            Ok(stored) => direct.complete(&parts, &stored).await,
            Err(error) => Err(error),
        };
        match joined {
            // Here they were joined before, or never begun.
            Err(ObjectError::NotFound) => {}
            joined => return joined,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_the_same_size_but_for_the_last() {
        let parts = Multipart { part_size_bytes: 10, bucket_upload: None };
        for (size_bytes, count, last) in [(1, 1, 1), (10, 1, 10), (11, 2, 1), (25, 3, 5)] {
            assert_eq!((count, Some(last)), (parts.count(size_bytes), parts.size_of(count, size_bytes)));
            assert_eq!((None, None), (parts.size_of(0, size_bytes), parts.size_of(count + 1, size_bytes)));
        }
        assert_eq!(Some(10), parts.size_of(2, 25));
        let whole = Multipart { part_size_bytes: u64::MAX, bucket_upload: None };
        assert_eq!((1, None), (whole.count(u64::MAX), whole.size_of(u32::MAX, u64::MAX)));
    }
}
