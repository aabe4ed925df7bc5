//! Checks of what must always be true, over the rows of a store and the objects beside it.
//!
//! An examination reads only; [`repair`] is what writes. A finding is a defect or damage, never a state that
//! goes away by itself: what a crash leaves to the next sweep is sound. One exception: the objects of an
//! attempt that has ended are orphans at once, not only after a collection has missed them.

use std::fmt;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};

use crate::id::UploadId;
use crate::media::NewObject;
use crate::storage::Objects;
use crate::storage::objects::ObjectError;
use crate::store::{Causes, Store, StoreError};

pub mod repair;
#[cfg(feature = "sqlite")]
pub(crate) mod search_index;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;

pub use repair::{KeyOwner, Remedy, Repair, RepairReport, Treated};

/// The most findings of one check; a store with more of one kind is not told more by the rest.
pub const MAX_FINDINGS: usize = 100;

/// Rows and keys looked at together.
const BATCH: u16 = 500;

/// What is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// The database's own checks of its file and of references between rows.
    Database,
    /// A leased job is held by exactly one running attempt, and running attempts hold their jobs.
    Lease,
    /// A job's token is that of its newest attempt: tokens grow.
    Token,
    /// A job is claimed at most as often as it may be, and every claim is on record.
    Attempts,
    /// A job that ended says when, and holds no lease.
    Final,
    /// At most one live job has a unique key.
    UniqueKey,
    /// A queued job stands where its time and priority put it.
    Order,
    /// The counts of each owner's jobs, by which turns are taken, are those of the jobs.
    Owners,
    /// A group waits for as many jobs as are live in it, and for at least one.
    Group,
    /// `processing` means that a live job makes the renditions.
    Processing,
    /// `uploaded` and not trashed means that a live job will process the source.
    Uploaded,
    /// An upload that is `verifying` has a live job that ends it.
    Verifying,
    /// A rendition that is still to be made has a live job of its video.
    Rendition,
    /// A video that is `ready`, or was ever published, has a ready rendition.
    Ready,
    /// A video beyond `draft` has exactly one current source.
    CurrentSource,
    /// Sources, posters and ready renditions have the rows of their objects.
    ObjectRow,
    /// Every recorded object exists.
    ObjectMissing,
    /// Every recorded object has the recorded size and, in a deep examination, the recorded hash.
    ObjectDiffers,
    /// Every stored object belongs to a row, to a running attempt's prefix or to a live upload.
    Orphan,
    /// The uploads that count against quotas are the sources that are stored.
    Quota,
    /// The full-text index says what the videos say.
    SearchIndex,
    /// What a remembered request made is there.
    Idempotency,
}

/// One thing that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Which check found it.
    pub check: Check,
    /// What it is about: an id, an object key or `database`.
    pub subject: String,
    /// What is wrong with it, in one sentence.
    pub explanation: String,
}

/// How much was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Checked {
    /// Rows of jobs.
    pub jobs: u64,
    /// Rows of videos.
    pub videos: u64,
    /// Rows of uploads.
    pub uploads: u64,
    /// Rows of objects, each compared with its object.
    pub objects: u64,
    /// Keys in the object store, each compared with the rows.
    pub keys: u64,
    /// Bytes read and hashed.
    pub hashed_bytes: u64,
}

/// What an examination found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Report {
    /// What is wrong, at most [`MAX_FINDINGS`] of each check; empty if all is well.
    pub findings: Vec<Finding>,
    /// How much was looked at.
    pub checked: Checked,
}

/// Why an examination did not come to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExamineError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The object store did not answer.
    #[error(transparent)]
    Objects(#[from] ObjectError),
}

/// Reads what the checks need, and writes what repairs need.
#[async_trait]
pub trait DoctorStore: Send + Sync {
    /// Every check of rows against rows, in one read transaction, so that none of them sees a command
    /// half done. `deep` includes the checks whose cost grows with the text and the file.
    async fn examine_rows(&self, deep: bool) -> Result<Report, StoreError>;

    /// Up to `limit` recorded objects whose keys are above `after`, sorted by key, but for those of videos
    /// that are being purged: their objects go before their rows.
    async fn recorded_objects(&self, after: &str, limit: u16) -> Result<Vec<NewObject>, StoreError>;

    /// Those of `keys` that belong to nothing: no recorded object, no prefix of an attempt that runs, no
    /// upload that is open or being verified, no video that is being purged. A key this program made that
    /// belongs to nothing once does so for ever: attempts, uploads and purges never come back.
    async fn unknown_keys(&self, keys: Vec<String>) -> Result<Vec<String>, StoreError>;

    /// Whose the key is.
    async fn key_owner(&self, key: &str) -> Result<KeyOwner, StoreError>;

    /// Repairs what the repair is about if it is still as it was found, and then writes the causes; `false`
    /// if it was not, and nothing is written.
    async fn repair(&self, repair: Repair, causes: Causes) -> Result<bool, StoreError>;

    /// Whether there is a video at all, trashed or not.
    async fn knows_videos(&self) -> Result<bool, StoreError>;
}

impl Check {
    /// The name used in JSON and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Lease => "lease",
            Self::Token => "token",
            Self::Attempts => "attempts",
            Self::Final => "final",
            Self::UniqueKey => "unique_key",
            Self::Order => "order",
            Self::Owners => "owners",
            Self::Group => "group",
            Self::Processing => "processing",
            Self::Uploaded => "uploaded",
            Self::Verifying => "verifying",
            Self::Rendition => "rendition",
            Self::Ready => "ready",
            Self::CurrentSource => "current_source",
            Self::ObjectRow => "object_row",
            Self::ObjectMissing => "object_missing",
            Self::ObjectDiffers => "object_differs",
            Self::Orphan => "orphan",
            Self::Quota => "quota",
            Self::SearchIndex => "search_index",
            Self::Idempotency => "idempotency",
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}: {}", self.check, self.subject, self.explanation)
    }
}

impl Report {
    /// Whether nothing was found.
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }

    pub(crate) fn add(&mut self, check: Check, subject: impl Into<String>, explanation: impl Into<String>) {
        if self.findings.iter().filter(|finding| finding.check == check).count() < MAX_FINDINGS {
            self.findings.push(Finding { check, subject: subject.into(), explanation: explanation.into() });
        }
    }
}

/// Examines a store and its objects. A `deep` examination also hashes every object and lets the
/// database read its whole file.
///
/// It may run beside everything else: what looks wrong between rows and objects is looked at a second
/// time before it is told, because a command may have run between the two looks.
///
/// # Errors
/// [`ExamineError`] if the store or the object store does not answer; no report then.
pub async fn examine(store: &dyn Store, objects: &Objects, deep: bool) -> Result<Report, ExamineError> {
    let mut report = store.examine_rows(deep).await?;
    examine_recorded(store, objects, deep, &mut report).await?;
    examine_keys(store, objects, &mut report).await?;
    Ok(report)
}

/// Every recorded object is there as recorded.
async fn examine_recorded(
    store: &dyn Store,
    objects: &Objects,
    deep: bool,
    report: &mut Report,
) -> Result<(), ExamineError> {
    let mut after = String::new();
    loop {
        let recorded = store.recorded_objects(&after, BATCH).await?;
        let Some(last) = recorded.last() else { return Ok(()) };
        after.clone_from(&last.key);
        for object in &recorded {
            report.checked.objects += 1;
            let Some((check, explanation)) = compare(objects, object, deep, report).await? else { continue };
            if store.object(&object.key).await?.as_ref() == Some(object) {
                report.add(check, &object.key, explanation);
            }
        }
    }
}

async fn compare(
    objects: &Objects,
    recorded: &NewObject,
    deep: bool,
    report: &mut Report,
) -> Result<Option<(Check, String)>, ExamineError> {
    let missing = || Some((Check::ObjectMissing, "It is recorded, but there is no such object.".to_owned()));
    let Some(size_bytes) = objects.size(&recorded.key).await? else {
        return Ok(missing());
    };
    if size_bytes != recorded.size_bytes {
        let explanation = format!("It is {size_bytes} bytes long; {} are recorded.", recorded.size_bytes);
        return Ok(Some((Check::ObjectDiffers, explanation)));
    }
    if !deep {
        return Ok(None);
    }
    let measured = match objects.measure(&recorded.key).await {
        Ok(measured) => measured,
        Err(ObjectError::NotFound) => return Ok(missing()),
        Err(error) => return Err(error.into()),
    };
    report.checked.hashed_bytes += measured.size_bytes;
    let differs = measured.sha256 != recorded.sha256;
    Ok(differs.then(|| (Check::ObjectDiffers, "Its SHA-256 is not the recorded one.".to_owned())))
}

/// Every stored object belongs to something.
async fn examine_keys(store: &dyn Store, objects: &Objects, report: &mut Report) -> Result<(), ExamineError> {
    let mut batches = objects.keys().try_chunks(BATCH.into());
    while let Some(keys) = batches.try_next().await.map_err(|error| error.1)? {
        report.checked.keys += keys.len() as u64;
        let suspects = store.unknown_keys(keys).await?;
        if suspects.is_empty() {
            continue;
        }
        // A key that was listed just before its command ran may be known, or gone, by now.
        for key in store.unknown_keys(suspects).await? {
            if objects.size(&key).await?.is_some() {
                report.add(Check::Orphan, key, "It belongs to no row, no running attempt and no live upload.");
            }
        }
    }
    Ok(())
}

/// The upload a key was made for: `staging/{upload}/…` while its bytes come, `originals/{video}/{upload}`
/// once they are pinned.
pub fn upload_of(key: &str) -> Option<UploadId> {
    let mut segments = key.split('/');
    let upload = match segments.next()? {
        "staging" => segments.next(),
        "originals" => segments.nth(1),
        _ => None,
    };
    upload?.parse().ok()
}

/// The video whose source or rendition a key was made for.
#[cfg(feature = "sqlite")]
pub(crate) fn video_of(key: &str) -> Option<crate::id::VideoId> {
    let mut segments = key.split('/');
    matches!(segments.next()?, "originals" | "renditions").then_some(())?;
    segments.next()?.parse().ok()
}
