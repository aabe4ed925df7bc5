//! Claims about bytes that come in several requests, and about parts.

use std::time::Duration;

use crate::catalog::{NewVideo, Video, Visibility};
use crate::id::{UploadId, VideoId};
use crate::jobs::{JobFilter, UPLOADS_QUEUE};
use crate::storage::{
    Appending, BeginAppend, JoinUploads, NewUpload, RecordAppend, Segment, StorageUsage, Upload, UploadError,
    UploadKind, UploadStatus,
};
use crate::store::Causes;
use crate::testkit::videos::VideoHarness;

use super::{abort, complete, open, read, usage};

const QUOTA: u64 = 1000;

/// An open upload whose bytes are appended.
async fn resumable(h: &VideoHarness, video: &Video, length: Option<u64>) -> Upload {
    let new =
        NewUpload { kind: UploadKind::Resumable, size_bytes: length, quota_bytes: QUOTA, ..h.new_upload(video, 1) };
    open(h, new).await.expect("it is allowed")
}

/// A part of the video's owner that holds its `length` bytes.
async fn whole_part(h: &VideoHarness, video: &Video, length: u64) -> Upload {
    let new = NewUpload { kind: UploadKind::Part, video: None, max_open: 10, ..h.new_upload(video, length) };
    let part = open(h, new).await.expect("it is allowed");
    append(h, &part, 1, 0, length).await.expect("nobody else writes")
}

fn begin_with(upload: &Upload, writer: u8, offset_bytes: u64) -> BeginAppend {
    BeginAppend {
        id: upload.id,
        user: upload.user,
        offset_bytes,
        length: None,
        announced: None,
        max_size_bytes: 10_000,
        quota_bytes: QUOTA,
        writer: [writer; 16],
    }
}

async fn begin(h: &VideoHarness, upload: &Upload, writer: u8, offset: u64) -> Result<Appending, UploadError> {
    h.store.begin_append(begin_with(upload, writer, offset)).await
}

fn segment(upload: &Upload, seq: u32, size_bytes: u64) -> Segment {
    Segment { seq, key: format!("staging/{}/{seq}", upload.id), size_bytes }
}

fn bytes(h: &VideoHarness, upload: &Upload, writer: u8, from: u64, to: u64) -> RecordAppend {
    RecordAppend {
        id: upload.id,
        writer: [writer; 16],
        from,
        to,
        segments: if to > from { vec![segment(upload, 0, to)] } else { Vec::new() },
        hash_state: vec![writer, 7],
        sha256: [9; 32],
        goes_on: false,
        quota_bytes: QUOTA,
        expires_at: h.now(),
    }
}

async fn record(h: &VideoHarness, command: RecordAppend) -> Result<Upload, UploadError> {
    let causes = Causes::none().job(h.new_job(UPLOADS_QUEUE, "verify", None));
    h.store.record_append(command, causes).await
}

/// One request, from beginning to end.
async fn append(h: &VideoHarness, upload: &Upload, writer: u8, from: u64, to: u64) -> Result<Upload, UploadError> {
    begin(h, upload, writer, from).await?;
    record(h, bytes(h, upload, writer, from, to)).await
}

async fn jobs(h: &VideoHarness) -> usize {
    h.store.jobs(&JobFilter::default(), None, 100).await.expect("the store answers").len()
}

async fn segments(h: &VideoHarness, id: UploadId) -> Vec<Segment> {
    h.store.upload_segments(id).await.expect("the store answers")
}

fn joining(h: &VideoHarness, video: &Video, parts: &[&Upload]) -> JoinUploads {
    let new = NewUpload { kind: UploadKind::Joined, size_bytes: None, quota_bytes: QUOTA, ..h.new_upload(video, 1) };
    JoinUploads { new, parts: parts.iter().map(|part| part.id).collect(), max_size_bytes: 10_000 }
}

async fn join(h: &VideoHarness, command: JoinUploads) -> Result<Upload, UploadError> {
    let causes = Causes::none().job(h.new_job(UPLOADS_QUEUE, "verify", None));
    h.store.join_uploads(command, causes).await.map(crate::store::Outcome::into_inner)
}

/// And the next writer finds all of it.
pub async fn the_offset_moves_with_its_segments_and_the_state_of_the_hash(h: &VideoHarness) {
    let upload = resumable(h, &h.draft(h.user().await, "Pieces").await, Some(100)).await;
    let first = begin(h, &upload, 1, 0).await.expect("nobody else writes");
    assert_eq!((Vec::new(), None, true), (first.segments, first.hash_state, first.is_quiet));
    let moved =
        record(h, RecordAppend { goes_on: true, ..bytes(h, &upload, 1, 0, 40) }).await.expect("it is the writer");
    assert_eq!((40, UploadStatus::Open), (moved.offset_bytes, moved.status));
    let grown = vec![segment(&upload, 0, 60)];
    record(h, RecordAppend { segments: grown.clone(), ..bytes(h, &upload, 1, 40, 60) })
        .await
        .expect("it is the writer");
    let next = begin(h, &upload, 2, 60).await.expect("the one before ended");
    assert_eq!((grown, Some(vec![1, 7]), true), (next.segments, next.hash_state, next.is_quiet));
    assert_eq!((100, 0), (usage(h, upload.user).await.reserved_bytes, jobs(h).await));
}

/// It may have been frozen, or in another process.
pub async fn a_writer_who_was_followed_moves_nothing(h: &VideoHarness) {
    let upload = resumable(h, &h.draft(h.user().await, "Twice").await, Some(100)).await;
    begin(h, &upload, 1, 0).await.expect("nobody else writes");
    let second = begin(h, &upload, 2, 0).await.expect("later ones take over");
    assert!(!second.is_quiet, "the first may still write to its segment");
    let late = record(h, bytes(h, &upload, 1, 0, 50)).await;
    assert!(matches!(late, Err(UploadError::Superseded)), "{late:?}");
    assert_eq!((0, Vec::new()), (read(h, upload.id).await.offset_bytes, segments(h, upload.id).await));
    record(h, bytes(h, &upload, 2, 0, 30)).await.expect("it is the writer");
    let again = record(h, bytes(h, &upload, 2, 0, 30)).await;
    assert!(matches!(again, Err(UploadError::Superseded)), "it ended: {again:?}");
    assert_eq!(30, read(h, upload.id).await.offset_bytes);
}

/// The writer at work goes on.
pub async fn bytes_that_begin_elsewhere_find_the_offset_and_disturb_nobody(h: &VideoHarness) {
    let upload = resumable(h, &h.draft(h.user().await, "Lost").await, Some(100)).await;
    append(h, &upload, 1, 0, 40).await.expect("nobody else writes");
    begin(h, &upload, 2, 40).await.expect("the one before ended");
    for offset in [0, 39, 41, 100] {
        let refused = begin(h, &upload, 3, offset).await;
        assert!(matches!(refused, Err(UploadError::OffsetMismatch { current: 40 })), "{offset}: {refused:?}");
    }
    let foreign = Upload { user: h.user().await, ..upload.clone() };
    assert!(matches!(begin(h, &foreign, 3, 40).await, Err(UploadError::NotFound)));
    record(h, bytes(h, &upload, 2, 40, 50)).await.expect("it is still the writer");
}

/// Neither before nor twice.
pub async fn the_last_byte_completes_an_upload_and_writes_its_job_once(h: &VideoHarness) {
    let upload = resumable(h, &h.draft(h.user().await, "Whole").await, Some(100)).await;
    append(h, &upload, 1, 0, 99).await.expect("nobody else writes");
    assert!(matches!(complete(h, &upload).await, Err(UploadError::NoBytes)));
    assert_eq!(0, jobs(h).await);
    let whole = append(h, &upload, 2, 99, 100).await.expect("the one before ended");
    assert_eq!((UploadStatus::Verifying, Some([9; 32])), (whole.status, whole.received_sha256));
    assert_eq!(whole, complete(h, &upload).await.expect("it is verifying already"));
    assert_eq!(1, jobs(h).await);
    assert_eq!(StorageUsage { stored_bytes: 0, reserved_bytes: 100 }, usage(h, upload.user).await);
}

/// Announced or not.
pub async fn no_offset_passes_the_length(h: &VideoHarness) {
    let upload = resumable(h, &h.draft(h.user().await, "Long").await, Some(100)).await;
    let refused = h.store.begin_append(BeginAppend { announced: Some(101), ..begin_with(&upload, 1, 0) }).await;
    assert!(matches!(refused, Err(UploadError::SizeMismatch { declared: 100, received: 101 })), "{refused:?}");
    h.store.begin_append(BeginAppend { announced: Some(100), ..begin_with(&upload, 1, 0) }).await.expect("they fit");
    let refused = record(h, bytes(h, &upload, 1, 0, 101)).await;
    assert!(matches!(refused, Err(UploadError::SizeMismatch { declared: 100, received: 101 })), "{refused:?}");
    assert_eq!((0, Vec::new()), (read(h, upload.id).await.offset_bytes, segments(h, upload.id).await));
}

/// Saying it once more is fine.
pub async fn a_deferred_length_is_declared_once_and_reserved_then(h: &VideoHarness) {
    let upload = resumable(h, &h.draft(h.user().await, "Live").await, None).await;
    assert_eq!((true, 0), (upload.length_deferred, usage(h, upload.user).await.reserved_bytes));
    append(h, &upload, 1, 0, 40).await.expect("nobody else writes");
    let declare = |length| h.store.begin_append(BeginAppend { length: Some(length), ..begin_with(&upload, 2, 40) });
    for length in [0, 39] {
        assert!(matches!(declare(length).await, Err(UploadError::Invalid(_))), "{length}");
    }
    assert!(matches!(declare(10_001).await, Err(UploadError::TooLarge { max_size_bytes: 10_000 })));
    assert!(matches!(declare(1001).await, Err(UploadError::QuotaExceeded { used_bytes: 40, quota_bytes: QUOTA })));
    assert!(read(h, upload.id).await.length_deferred);
    declare(100).await.expect("there is room");
    declare(100).await.expect("it is the same");
    assert!(matches!(declare(101).await, Err(UploadError::LengthDeclared { declared: 100 })));
    assert_eq!(100, usage(h, upload.user).await.reserved_bytes);
}

/// So that nobody passes it by not saying how much will come.
pub async fn bytes_of_an_unknown_length_count_against_the_quota_as_they_come(h: &VideoHarness) {
    let video = h.draft(h.user().await, "Live").await;
    let upload = resumable(h, &video, None).await;
    append(h, &upload, 1, 0, 999).await.expect("there is room");
    begin(h, &upload, 2, 999).await.expect("the one before ended");
    let refused = record(h, bytes(h, &upload, 2, 999, 1001)).await;
    assert!(matches!(refused, Err(UploadError::QuotaExceeded { used_bytes: 999, quota_bytes: QUOTA })), "{refused:?}");
    assert_eq!(999, read(h, upload.id).await.offset_bytes);
    record(h, bytes(h, &upload, 2, 999, 1000)).await.expect("the last byte of the quota");
    assert_eq!(
        (1000, UploadStatus::Open),
        (usage(h, video.owner).await.reserved_bytes, read(h, upload.id).await.status)
    );
}

/// Whoever keeps bringing bytes has more time.
pub async fn appended_bytes_put_the_expiry_off_and_never_forward(h: &VideoHarness) {
    let upload = resumable(h, &h.draft(h.user().await, "Slow").await, Some(100)).await;
    let later = upload.expires_at.plus(Duration::from_secs(60));
    begin(h, &upload, 1, 0).await.expect("nobody else writes");
    let moved = record(h, RecordAppend { expires_at: later, goes_on: true, ..bytes(h, &upload, 1, 0, 10) }).await;
    assert_eq!(later, moved.expect("it is the writer").expires_at);
    let moved = record(h, bytes(h, &upload, 1, 10, 20)).await.expect("it is the writer");
    assert_eq!(later, moved.expires_at);
    h.clock.advance(later.since(h.now()));
    assert!(matches!(begin(h, &upload, 2, 20).await, Err(UploadError::Expired)));
}

/// Also those that were on their way when it did.
pub async fn an_upload_that_ended_takes_no_appended_bytes(h: &VideoHarness) {
    let upload = resumable(h, &h.draft(h.user().await, "Over").await, Some(100)).await;
    append(h, &upload, 1, 0, 10).await.expect("nobody else writes");
    begin(h, &upload, 2, 10).await.expect("the one before ended");
    abort(h, &upload).await.expect("it is open");
    assert!(matches!(record(h, bytes(h, &upload, 2, 10, 20)).await, Err(UploadError::WrongState { .. })));
    assert!(matches!(begin(h, &upload, 3, 10).await, Err(UploadError::WrongState { .. })));
    assert_eq!(Vec::<Segment>::new(), segments(h, upload.id).await);
    let part = whole_part(h, &h.draft(h.user().await, "Part").await, 10).await;
    abort(h, &part).await.expect("it is open");
    assert_eq!(None, h.store.upload(part.id).await.expect("the store answers"), "no video's purge would forget it");
}

/// Each has its own way.
pub async fn whole_uploads_and_resumable_ones_take_no_bytes_of_each_other(h: &VideoHarness) {
    let video = h.draft(h.user().await, "Ways").await;
    let (whole, pieces) = (h.open(&video, 10).await, resumable(h, &video, Some(10)).await);
    assert!(matches!(begin(h, &whole, 1, 0).await, Err(UploadError::WrongKind { kind: UploadKind::Whole, .. })));
    let received = super::receive(h, &pieces, "staging/x").await;
    assert!(matches!(received, Err(UploadError::WrongKind { kind: UploadKind::Resumable, .. })), "{received:?}");
    let part = whole_part(h, &video, 10).await;
    assert!(matches!(complete(h, &part).await, Err(UploadError::WrongKind { kind: UploadKind::Part, .. })));
}

/// In the order of the list, whatever the order they came in.
pub async fn parts_become_one_upload_with_their_segments_in_order(h: &VideoHarness) {
    let video = h.draft(h.user().await, "Joined").await;
    let (one, two) = (whole_part(h, &video, 30).await, whole_part(h, &video, 12).await);
    let joined = join(h, joining(h, &video, &[&two, &one])).await.expect("both are whole");
    assert_eq!((UploadStatus::Verifying, 42, Some(video.id)), (joined.status, joined.size_bytes, joined.video));
    let keys: Vec<_> = segments(h, joined.id).await.into_iter().map(|s| (s.seq, s.key, s.size_bytes)).collect();
    assert_eq!([(0, segment(&two, 0, 12).key, 12), (1, segment(&one, 0, 30).key, 30)], *keys);
    assert_eq!([UploadStatus::Used; 2], [read(h, one.id).await.status, read(h, two.id).await.status]);
    assert_eq!(1, jobs(h).await);
    let kept = [format!("staging/{}/0", one.id), format!("staging/{}", two.id)].to_vec();
    assert!(h.store.unknown_keys(kept).await.expect("the store answers").is_empty(), "their bytes are needed");
}

/// What they reserved is what the whole does.
pub async fn joining_moves_the_reservation_and_needs_no_more(h: &VideoHarness) {
    let video = h.draft(h.user().await, "Full").await;
    let (one, two) = (whole_part(h, &video, 600).await, whole_part(h, &video, 400).await);
    assert_eq!(QUOTA, usage(h, video.owner).await.reserved_bytes);
    join(h, joining(h, &video, &[&one, &two])).await.expect("the quota holds them already");
    assert_eq!(QUOTA, usage(h, video.owner).await.reserved_bytes);
}

/// Missing, another's, not whole, no part, named twice, used, expired; and a whole above the bound.
pub async fn parts_that_cannot_be_joined_stay_as_they_are(h: &VideoHarness) {
    let video = h.draft(h.user().await, "Bad").await;
    let good = whole_part(h, &video, 10).await;
    let short = NewUpload { kind: UploadKind::Part, video: None, ..h.new_upload(&video, 10) };
    let short = open(h, short).await.expect("it is allowed");
    let foreign = whole_part(h, &h.draft(h.user().await, "Theirs").await, 10).await;
    let ordinary = resumable(h, &video, Some(10)).await;
    let absent = Upload { id: UploadId::new(h.now(), h.entropy()), ..good.clone() };
    let used = whole_part(h, &video, 10).await;
    join(h, joining(h, &video, &[&used])).await.expect("it is whole");
    for bad in [&good, &short, &foreign, &ordinary, &absent, &used] {
        let refused = join(h, joining(h, &video, &[&good, bad])).await;
        assert!(matches!(refused, Err(UploadError::BadPart { position: 1 })), "{refused:?}");
    }
    assert!(matches!(join(h, joining(h, &video, &[])).await, Err(UploadError::BadPart { .. })));
    let small = JoinUploads { max_size_bytes: 9, ..joining(h, &video, &[&good]) };
    assert!(matches!(join(h, small).await, Err(UploadError::TooLarge { max_size_bytes: 9 })));
    assert_eq!(good, read(h, good.id).await);
    h.clock.advance(good.expires_at.since(h.now()));
    assert!(matches!(join(h, joining(h, &video, &[&good])).await, Err(UploadError::BadPart { position: 0 })));
}

/// Its bytes are in one whole.
pub async fn of_two_that_join_the_same_part_one_wins(h: &VideoHarness) {
    let video = h.draft(h.user().await, "Both").await;
    let part = whole_part(h, &video, 10).await;
    let (one, two) = tokio::join!(join(h, joining(h, &video, &[&part])), join(h, joining(h, &video, &[&part])));
    assert_eq!(1, [&one, &two].into_iter().filter(|joined| joined.is_ok()).count(), "{one:?} {two:?}");
    assert_eq!((10, 1), (usage(h, video.owner).await.reserved_bytes, jobs(h).await));
}

/// It is known when they stand in their order, by whoever holds the lease, and no sooner.
pub async fn a_joined_upload_keeps_what_its_bytes_come_to(h: &VideoHarness) {
    let video = h.draft(h.user().await, "Joined").await;
    let part = whole_part(h, &video, 10).await;
    let joined = join(h, joining(h, &video, &[&part])).await.expect("the part is whole");
    assert_eq!(None, joined.received_sha256);
    let lost = h.store.record_joined(h.lost_fence().await, joined.id, [7; 32]).await;
    assert!(matches!(lost, Err(UploadError::Fenced)), "{lost:?}");
    assert_eq!(None, read(h, joined.id).await.received_sha256);
    let lease = h.claim(UPLOADS_QUEUE).await;
    h.store.record_joined(lease.fence(), joined.id, [7; 32]).await.expect("the lease is held");
    assert_eq!(Some([7; 32]), read(h, joined.id).await.received_sha256);
    h.store.reject_upload(lease.fence(), joined.id, "No.".to_owned(), h.now()).await.expect("the lease is held");
    assert_eq!(Some([7; 32]), read(h, joined.id).await.received_sha256);
    let late = h.store.record_joined(lease.fence(), joined.id, [8; 32]).await;
    assert!(matches!(late, Err(UploadError::WrongState { .. })), "{late:?}");
}

/// One transaction.
pub async fn a_draft_is_made_with_its_upload_or_not_at_all(h: &VideoHarness) {
    let owner = h.user().await;
    let draft = |id| NewVideo {
        id,
        owner,
        title: "Made along".to_owned(),
        description: String::new(),
        tags: Vec::new(),
        visibility: Visibility::Private,
        now: h.now(),
    };
    let base = h.draft(owner, "Other").await;
    let with_draft = |size| {
        let id = VideoId::new(h.now(), h.entropy());
        let new =
            NewUpload { kind: UploadKind::Resumable, video: Some(id), quota_bytes: 100, ..h.new_upload(&base, size) };
        (id, NewUpload { draft: Some(draft(id)), ..new })
    };
    let (id, too_large) = with_draft(101);
    assert!(matches!(open(h, too_large).await, Err(UploadError::QuotaExceeded { .. })));
    assert!(h.store.video(id).await.expect("the store answers").is_none());
    let (id, fits) = with_draft(100);
    assert_eq!(Some(id), open(h, fits).await.expect("there is room").video);
    assert_eq!("Made along", h.video(id).await.title);
}
