//! Repairs: what is done about a finding, or why nothing can be.
//!
//! Every repair is safe beside everything else: it is one command that looks for the damage once more in its
//! own transaction. What has to be made again is made by the jobs that made it first.

use serde::{Deserialize, Serialize};

use crate::catalog::CatalogError;
use crate::catalog::service::stale;
use crate::doctor::{Check, ExamineError, Finding, Report, examine};
use crate::housekeeping::{CollectError, collect};
use crate::id::{JobId, SourceId, UploadId, VideoId};
use crate::jobs::NewJob;
use crate::media::NewObject;
use crate::media::jobs::process_job;
use crate::platform::parts::Parts;
use crate::storage::objects::ObjectError;
use crate::storage::service::verify_job;
use crate::storage::{Upload, UploadError};
use crate::store::{Causes, StoreError};

/// How often the whole is looked through: a repair may bring to light what another finding hid.
const ROUNDS: usize = 4;

/// Said of what an earlier repair of the same run may have seen to.
const BY_ANOTHER: &str = "It was repaired together with what was found before it, or was not so any more.";

/// One repair of rows.
#[derive(Debug, Clone, PartialEq)]
pub enum Repair {
    /// A job's row agrees with itself and its attempts.
    Job(JobId),
    /// The counts of every owner's jobs are right.
    Owners,
    /// The counts of every group are right, and those with no job left are followed.
    Groups,
    /// The full-text index is built anew.
    SearchIndex,
    /// The video's newest source is current; a video without any is a draft.
    CurrentSource(VideoId),
    /// The job among the causes processes the video, unless nothing is missing or a live job is at it.
    Process(VideoId),
    /// A trashed video is not `processing`.
    Settle(VideoId),
    /// The job among the causes verifies the upload, unless it is not being verified or a live job does it.
    Verify(UploadId),
    /// A video of which nothing is ready is not shown as playable; the job among the causes makes it anew.
    Unpublish(VideoId),
    /// An original is recorded as it was measured, if that is what its source says.
    Record {
        /// The video.
        video: VideoId,
        /// The object.
        object: NewObject,
    },
    /// Nothing shows this key any more: what it is part of has failed, and its own row is gone unless it is
    /// an original. The job among the causes makes it again.
    Forget(String),
    /// An upload counts what came by it.
    Upload(UploadId),
    /// A source counts against its owner's quota.
    Source(SourceId),
    /// No request of its owner is remembered as having made this video or upload, which is not there.
    Remembered(String),
}

/// Whose a key is, by the rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyOwner {
    /// It is the original of a source.
    Original {
        /// The video.
        video: VideoId,
        /// What the source says of it.
        object: NewObject,
    },
    /// It was made from an original: a part of a rendition, or a picture.
    Made {
        /// The video.
        video: VideoId,
    },
    /// No row names it.
    Nobody,
}

/// What came of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remedy {
    /// It was repaired, or what repairs it has been begun.
    Repaired,
    /// It was not there any more.
    Gone,
    /// It cannot be repaired.
    Left,
}

/// A finding and what was done about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Treated {
    /// What was found.
    pub finding: Finding,
    /// What came of it.
    pub remedy: Remedy,
    /// What was done, or why nothing was, in a sentence or two.
    pub note: String,
}

/// What a repair found and did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RepairReport {
    /// Every finding, in the order in which they were treated.
    pub treated: Vec<Treated>,
    /// What an examination found afterwards; sound if all could be repaired.
    pub after: Report,
}

/// Examines and repairs until nothing new is found. What had to be left is tried again where something else
/// was repaired since: it may have stood in the way.
pub(crate) async fn repair(parts: &Parts, deep: bool) -> Result<RepairReport, ExamineError> {
    let mut treated: Vec<Treated> = Vec::new();
    let mut progress = true;
    for _ in 0..ROUNDS {
        let report = examine(&*parts.store, &parts.objects, deep).await?;
        let is_settled = |finding: &Finding| {
            let known = treated.iter().find(|it| it.finding == *finding);
            known.is_some_and(|it| it.remedy != Remedy::Left || !progress)
        };
        let open: Vec<Finding> = report.findings.iter().filter(|finding| !is_settled(finding)).cloned().collect();
        if open.is_empty() {
            return Ok(RepairReport { treated, after: report });
        }
        progress = false;
        for finding in open {
            let (remedy, note) = treat(parts, &finding).await?;
            tracing::info!(check = %finding.check, subject = finding.subject, ?remedy, "{note}");
            progress |= remedy == Remedy::Repaired;
            treated.retain(|it| it.finding != finding);
            treated.push(Treated { finding, remedy, note });
        }
    }
    let after = examine(&*parts.store, &parts.objects, deep).await?;
    Ok(RepairReport { treated, after })
}

type Note = (Remedy, String);

fn left(note: impl Into<String>) -> Note {
    (Remedy::Left, note.into())
}

async fn treat(parts: &Parts, finding: &Finding) -> Result<Note, ExamineError> {
    let subject = &*finding.subject;
    match finding.check {
        Check::Database => Ok(left(
            "Nothing here repairs a damaged file. Stop every process, try `REINDEX` and SQLite's `.recover` on a copy, \
             or restore a backup.",
        )),
        Check::Owners => row(parts, Repair::Owners, "The jobs of every owner were counted anew.").await,
        Check::Group => {
            let note = "The jobs of every group were counted anew; what follows those with none left was written.";
            row(parts, Repair::Groups, note).await
        }
        Check::SearchIndex => row(parts, Repair::SearchIndex, "The search index was built anew.").await,
        Check::Idempotency => {
            let repair = Repair::Remembered(subject.to_owned());
            row(parts, repair, "The record was deleted: the same request would run again.").await
        }
        Check::Orphan => orphan(parts, subject).await,
        Check::ObjectRow | Check::ObjectMissing | Check::ObjectDiffers => object(parts, finding).await,
        Check::Lease | Check::Token | Check::Attempts | Check::Final | Check::UniqueKey | Check::Order => {
            let note =
                "Its row was made to agree with itself and its attempts; an attempt not on record lost its lease.";
            by_id(parts, subject, Repair::Job, note).await
        }
        Check::Verifying => verifying(parts, subject).await,
        Check::Quota => quota(parts, subject).await,
        Check::CurrentSource => current_source(parts, subject).await,
        Check::Processing | Check::Uploaded | Check::Rendition | Check::Ready => video(parts, finding).await,
    }
}

/// Runs one repair of rows.
async fn run(parts: &Parts, repair: Repair, causes: Causes) -> Result<bool, StoreError> {
    parts.store.repair(repair, causes).await
}

fn done(changed: bool, note: &str) -> Note {
    match changed {
        true => (Remedy::Repaired, note.to_owned()),
        false => (Remedy::Gone, "It was not so any more.".to_owned()),
    }
}

async fn row(parts: &Parts, repair: Repair, note: &str) -> Result<Note, ExamineError> {
    let changed = run(parts, repair, Causes::none()).await?;
    Ok(if changed { done(true, note) } else { (Remedy::Gone, BY_ANOTHER.to_owned()) })
}

async fn by_id<T: std::str::FromStr>(
    parts: &Parts,
    subject: &str,
    repair: impl FnOnce(T) -> Repair,
    note: &str,
) -> Result<Note, ExamineError> {
    match subject.parse() {
        Ok(id) => row(parts, repair(id), note).await,
        Err(_) => Ok(left("Its id cannot be read.")),
    }
}

/// The job that processes the video's current source; `None` if the video or the source is not there.
async fn processing(parts: &Parts, id: VideoId) -> Result<Option<Causes>, ExamineError> {
    let video = parts.store.video(id).await.map_err(store_error)?;
    let source = parts.store.current_source(id).await?;
    let (Some(video), Some(source)) = (video, source) else { return Ok(None) };
    // A job that is at work may have planned before the damage was seen, so that this one does not give way to
    // it: what the other makes already is not made twice all the same.
    let job = NewJob { unique_key: None, ..process_job(parts, &source, video.owner) };
    // A trashed video is planned by its restoring.
    Ok(Some(if video.deleted_at.is_none() { changes(id).job(job) } else { changes(id) }))
}

async fn video(parts: &Parts, finding: &Finding) -> Result<Note, ExamineError> {
    let Ok(id) = finding.subject.parse::<VideoId>() else { return Ok(left("Its id cannot be read.")) };
    let Some(causes) = processing(parts, id).await? else {
        return Ok(left("It has no source to be processed: it has to be uploaded again."));
    };
    if finding.check == Check::Ready {
        let note = "It is no longer shown as playable; a job makes its renditions anew.";
        return Ok(done(run(parts, Repair::Unpublish(id), causes).await?, note));
    }
    if run(parts, Repair::Settle(id), Causes::none()).await? {
        return Ok(done(true, "It waits in the trash; restoring it plans its processing."));
    }
    Ok(done(run(parts, Repair::Process(id), causes).await?, "The job that processes it was written again."))
}

async fn current_source(parts: &Parts, subject: &str) -> Result<Note, ExamineError> {
    let Ok(id) = subject.parse::<VideoId>() else { return Ok(left("Its id cannot be read.")) };
    let note = "Its newest source is the current one; without any it is a draft again.";
    // What becomes a draft plays no more, wherever something of it is kept.
    let changed = run(parts, Repair::CurrentSource(id), changes(id)).await?;
    Ok(if changed { done(true, note) } else { (Remedy::Gone, BY_ANOTHER.to_owned()) })
}

async fn verifying(parts: &Parts, subject: &str) -> Result<Note, ExamineError> {
    let Ok(id) = subject.parse::<UploadId>() else { return Ok(left("Its id cannot be read.")) };
    let Some(upload) = parts.store.upload(id).await.map_err(upload_error)? else {
        return Ok(done(false, ""));
    };
    let Upload { id, user, video, .. } = upload;
    let causes = Causes::none().job(verify_job(parts, id, user, video, parts.now()));
    Ok(done(run(parts, Repair::Verify(id), causes).await?, "The job that verifies it was written again."))
}

async fn quota(parts: &Parts, subject: &str) -> Result<Note, ExamineError> {
    if let Ok(source) = subject.parse::<SourceId>() {
        return row(parts, Repair::Source(source), "It counts against the quota of its owner again.").await;
    }
    by_id(parts, subject, Repair::Upload, "It counts what came by it, and nothing if nothing did.").await
}

async fn orphan(parts: &Parts, key: &str) -> Result<Note, ExamineError> {
    // One collection takes every orphan there is: those that were found after the first are gone by then.
    if parts.objects.size(key).await?.is_none() {
        return Ok((Remedy::Gone, BY_ANOTHER.to_owned()));
    }
    match collect(&*parts.store, &parts.objects).await {
        Ok(_) => {}
        Err(CollectError::Store(error)) => return Err(error.into()),
        Err(CollectError::Objects(error)) => return Err(error.into()),
        Err(CollectError::Cancelled) => return Ok(left("The collection was cancelled.")),
    }
    Ok(match parts.objects.size(key).await? {
        None => done(true, "It was deleted with everything else that belongs to nobody."),
        Some(_) => left(
            "It is not one of this program's keys, or there is no video at all in the database: it is left to you.",
        ),
    })
}

/// What is wrong with an object is put right where its bytes are those of the original; what was made from
/// an original is made again.
async fn object(parts: &Parts, finding: &Finding) -> Result<Note, ExamineError> {
    let key = &finding.subject;
    if finding.check == Check::ObjectMissing && parts.objects.size(key).await?.is_some() {
        return Ok(done(false, ""));
    }
    match parts.store.key_owner(key).await? {
        KeyOwner::Original { video, object } => original(parts, finding, video, object).await,
        KeyOwner::Made { video } => {
            let again = processing(parts, video).await?;
            let note = match again {
                Some(_) => "What it is part of is no longer shown; a job makes it again.",
                None => "What it is part of is no longer shown; there is no source to make it from.",
            };
            let causes = again.unwrap_or_else(|| changes(video));
            Ok(done(run(parts, Repair::Forget(key.clone()), causes).await?, note))
        }
        KeyOwner::Nobody => {
            let note = "No row needs it, and its own was deleted.";
            Ok(done(run(parts, Repair::Forget(key.clone()), Causes::none()).await?, note))
        }
    }
}

async fn original(parts: &Parts, finding: &Finding, video: VideoId, said: NewObject) -> Result<Note, ExamineError> {
    let measured = match parts.objects.measure(&said.key).await {
        Ok(measured) => measured,
        Err(ObjectError::NotFound) => return lost(parts, finding, video).await,
        Err(error) => return Err(error.into()),
    };
    if (measured.size_bytes, measured.sha256) != (said.size_bytes, said.sha256) {
        return Ok(left(
            "The original is not what was uploaded. What was made of it stays; upload the file again to be sure.",
        ));
    }
    let repair = Repair::Record { video, object: said };
    row(parts, repair, "The original is what was uploaded, and is recorded so again.").await
}

/// An original that is gone cannot be made again. Where it is what plays, its video is told to have failed.
async fn lost(parts: &Parts, finding: &Finding, video: VideoId) -> Result<Note, ExamineError> {
    let causes = processing(parts, video).await?.unwrap_or_else(|| changes(video));
    run(parts, Repair::Forget(finding.subject.clone()), causes).await?;
    Ok(left("The original is lost: put it back from a backup, or upload the file again."))
}

fn changes(video: VideoId) -> Causes {
    stale(video).into_iter().fold(Causes::none(), Causes::change)
}

fn store_error(error: CatalogError) -> StoreError {
    match error {
        CatalogError::Store(error) => error,
        other => StoreError::Defect { operation: "read a video", source: other.into() },
    }
}

fn upload_error(error: UploadError) -> StoreError {
    match error {
        UploadError::Store(error) => error,
        other => StoreError::Defect { operation: "read an upload", source: other.into() },
    }
}
