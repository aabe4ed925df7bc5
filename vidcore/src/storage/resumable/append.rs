//! One request that appends: takes the place, writes what comes, acknowledges what is durable.

use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use tokio_util::sync::CancellationToken;

use crate::entropy::EntropyExt;
use crate::platform::settings::UploadSettings;
use crate::storage::checksum::RunningChecksum;
use crate::storage::objects::ObjectError;
use crate::storage::service::{Uploads, staging_prefix, verify_job};
use crate::storage::staging::intake::{Intake, Pause, Sink, Until};
use crate::storage::staging::{RunningHash, StagingWriter, StartAt};
use crate::storage::{Appending, BeginAppend, Checksum, RecordAppend, Segment, Upload, UploadError};
use crate::store::{BoxError, Causes};

/// How long bytes wait at most until they are acknowledged: what a killed process loses of a slow upload.
const COMMIT_EVERY: Duration = Duration::from_secs(1);

/// How many times its ordinary life an upload may last if bytes keep coming.
pub(super) const LONGEST_LIFE: u32 = 7;

/// What is acknowledged.
struct Mark {
    offset: u64,
    hash: RunningHash,
}

/// An append under way.
struct Append<'a> {
    uploads: &'a Uploads,
    upload: Upload,
    writer: [u8; 16],
    /// The offset it began at.
    start: u64,
    mark: Mark,
    /// Whether somebody who was interrupted may still write to the last segment that counts.
    is_foreign: bool,
    /// Bytes that may come.
    room: u64,
}

/// Appends `stream` where `begin` says.
pub(super) async fn append(
    uploads: &Uploads,
    begin: BeginAppend,
    checksum: Option<Checksum>,
    stream: impl Stream<Item = Result<Bytes, BoxError>> + Send + Unpin,
) -> Result<Upload, UploadError> {
    let place = uploads.writers.enter(begin.id).await.ok_or(UploadError::Superseded)?;
    let writer = begin.writer;
    let appending = uploads.parts.store.begin_append(begin).await?;
    let hash = running_hash(uploads, &appending).await?;
    let start = appending.upload.offset_bytes;
    let mark = Mark { offset: start, hash: hash.clone() };
    let room = room(&appending, &uploads.parts.settings.uploads);
    let at = start_at(uploads, &appending, room);
    let is_foreign = !appending.is_quiet && !appending.segments.is_empty();
    let mut append = Append { uploads, upload: appending.upload, writer, start, mark, is_foreign, room };
    let checksum = checksum.map(RunningChecksum::new);
    match open_writer(uploads, at).await {
        Ok(writer) => {
            let sink = Sink { writer, hash, checksum, permits: uploads.parts.objects.hash_permits() };
            append.take(stream, sink, place.stop()).await
        }
        Err(error) => Err(append.end_with(error.into()).await),
    }
}

impl Append<'_> {
    async fn take<S>(&mut self, stream: S, sink: Sink, stop: &CancellationToken) -> Result<Upload, UploadError>
    where
        S: Stream<Item = Result<Bytes, BoxError>> + Send + Unpin,
    {
        // Bytes under a checksum count together or not at all.
        let is_checked = sink.checksum.is_some();
        let until = match is_checked {
            true => Until::END,
            false => Until { bytes: self.uploads.staging.commit_after(), time: COMMIT_EVERY },
        };
        let mut intake = Intake::new(stream, self.room, sink);
        loop {
            let pause = match intake.run(until, stop).await {
                Ok(pause) => pause,
                Err(error) => return Err(self.give_up(intake, error.into()).await),
            };
            crate::failpoints::hit("appended-before-commit");
            let why = match pause {
                Pause::Due => {
                    self.commit(&mut intake, Then::GoOn).await?;
                    continue;
                }
                Pause::Ended if intake.sink().checksum.as_ref().is_some_and(|checksum| !checksum.matches()) => {
                    return Err(self.give_up(intake, UploadError::ChecksumMismatch).await);
                }
                Pause::Ended => {
                    self.commit(&mut intake, Then::End).await?;
                    return Ok(self.upload.clone());
                }
                Pause::TooLong => return Err(self.give_up(intake, self.too_long()).await),
                Pause::Broken(error) => UploadError::BrokenOff(error),
                Pause::Stopped => UploadError::Superseded,
            };
            if is_checked {
                return Err(self.give_up(intake, why).await);
            }
            self.commit(&mut intake, Then::End).await?;
            return Err(why);
        }
    }

    fn too_long(&self) -> UploadError {
        let UploadSettings { max_size_bytes, quota_bytes, .. } = self.uploads.parts.settings.uploads;
        match self.upload.length_deferred {
            true if self.start + self.room >= max_size_bytes => UploadError::TooLarge { max_size_bytes },
            true => UploadError::QuotaExceeded { used_bytes: quota_bytes.saturating_sub(self.room), quota_bytes },
            false => {
                let declared = self.upload.size_bytes;
                UploadError::SizeMismatch { declared, received: declared.saturating_add(1) }
            }
        }
    }

    /// Makes what has come durable and acknowledges it.
    async fn commit<S>(&mut self, intake: &mut Intake<S>, then: Then) -> Result<(), UploadError>
    where
        S: Stream<Item = Result<Bytes, BoxError>> + Send + Unpin,
    {
        let to = self.start + intake.taken();
        // The last bytes complete the upload, which waits for the end: there may be more than was declared.
        let is_whole = !self.upload.length_deferred && to == self.upload.size_bytes;
        if then == Then::GoOn && is_whole {
            return Ok(());
        }
        let sink = intake.sink();
        let mark = Mark { offset: to, hash: sink.hash.clone() };
        let segments = match sink.writer.commit().await {
            Ok(segments) => segments,
            Err(error) => return Err(self.end_with(error.into()).await),
        };
        let is_something = !segments.is_empty();
        match self.record(mark, segments, then).await {
            // Whether it was recorded is not known; what nobody names is collected some day.
            Err(error @ UploadError::Store(_)) => Err(error),
            // It counts for nothing, and must not stay: the next request could bring as much.
            Err(error) => {
                if is_something {
                    sink.writer.retract().await;
                }
                Err(self.end_with(error).await)
            }
            recorded => recorded,
        }
    }

    async fn record(&mut self, mark: Mark, segments: Vec<Segment>, then: Then) -> Result<(), UploadError> {
        let settings = &self.uploads.parts.settings.uploads;
        let now = self.uploads.parts.now();
        let ttl = Duration::from_secs(settings.ttl_s);
        let is_foreign = self.is_foreign && segments.is_empty();
        let command = RecordAppend {
            id: self.upload.id,
            writer: self.writer,
            from: self.mark.offset,
            to: mark.offset,
            segments,
            hash_state: mark.hash.state(),
            sha256: mark.hash.digest(),
            // Who added nothing leaves the last segment to whoever may still write to it.
            goes_on: then == Then::GoOn || is_foreign,
            quota_bytes: settings.quota_bytes,
            expires_at: now.plus(ttl).min(self.upload.created_at.plus(ttl.saturating_mul(LONGEST_LIFE))),
        };
        let Upload { id, user, video, .. } = self.upload;
        let causes = Causes::none().job(verify_job(&self.uploads.parts, id, user, video, now));
        self.upload = self.uploads.parts.store.record_append(command, causes).await?;
        (self.mark, self.is_foreign) = (mark, is_foreign);
        Ok(())
    }

    /// Drops what was not acknowledged, and ends.
    async fn give_up<S>(&mut self, intake: Intake<S>, why: UploadError) -> UploadError
    where
        S: Stream<Item = Result<Bytes, BoxError>> + Send + Unpin,
    {
        intake.abandon().await;
        self.end_with(why).await
    }

    /// Ends in order without having added anything, so that the next writer can go on in the last segment.
    async fn end_with(&mut self, why: UploadError) -> UploadError {
        let mark = Mark { offset: self.mark.offset, hash: self.mark.hash.clone() };
        if let Err(error) = self.record(mark, Vec::new(), Then::End).await {
            // The next one begins a new segment.
            tracing::debug!(%error, upload.id = %self.upload.id, "an append did not end in order");
        }
        why
    }
}

/// What follows a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    GoOn,
    End,
}

/// Bytes that may come.
fn room(appending: &Appending, settings: &UploadSettings) -> u64 {
    let upload = &appending.upload;
    match upload.length_deferred {
        true => appending.quota_left.min(settings.max_size_bytes.saturating_sub(upload.offset_bytes)),
        false => upload.size_bytes.saturating_sub(upload.offset_bytes),
    }
}

/// While objects are moving, the last segment may lie in the other place, where nobody goes on with it.
async fn open_writer(uploads: &Uploads, at: StartAt) -> Result<Box<dyn StagingWriter>, ObjectError> {
    let opened = uploads.staging.writer(at.clone()).await;
    let (Err(ObjectError::NotFound), Some(last)) = (&opened, &at.last) else { return opened };
    match uploads.parts.objects.size(&last.key).await? {
        Some(size_bytes) if size_bytes >= last.size_bytes => uploads.staging.writer(StartAt { last: None, ..at }).await,
        _ => opened,
    }
}

fn start_at(uploads: &Uploads, appending: &Appending, room: u64) -> StartAt {
    let last = appending.segments.last().filter(|_| appending.is_quiet).cloned();
    StartAt {
        prefix: staging_prefix(appending.upload.id),
        next_seq: u32::try_from(appending.segments.len()).unwrap_or(u32::MAX),
        last,
        nonce: uploads.parts.entropy.bytes(),
        room,
    }
}

/// The hash of what was acknowledged: what was put aside or, should another version of this program have done that,
/// computed once more.
async fn running_hash(uploads: &Uploads, appending: &Appending) -> Result<RunningHash, UploadError> {
    if appending.upload.offset_bytes == 0 {
        return Ok(RunningHash::default());
    }
    if let Some(hash) = appending.hash_state.as_deref().and_then(RunningHash::from_state) {
        return Ok(hash);
    }
    Ok(uploads.parts.objects.hash_segments(&appending.segments).await?)
}
