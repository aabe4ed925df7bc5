//! Claims about every [`UploadStore`](crate::storage::UploadStore).

use std::time::Duration;

use crate::catalog::{TrashVideo, Video, VideoStatus};
use crate::id::{UploadId, UserId, VideoId};
use crate::jobs::{JobFilter, JobState, UPLOADS_QUEUE, VIDEO_QUEUE};
use crate::storage::{NewUpload, StorageUsage, Upload, UploadError, UploadStatus};
use crate::store::Causes;
use crate::testkit::videos::VideoHarness;
pub use appending::*;

mod appending;

/// Runs every claim about an `UploadStore` as a test of the module `$name`; `$harness` is a future of
/// `Option<VideoHarness>`, `None` where the back end's service is missing.
#[macro_export]
macro_rules! upload_store_contract {
    ($name:ident, $harness:expr) => {
        mod $name {
            $crate::upload_store_contract!(@claims $harness;
                an_upload_reserves_its_size,
                the_quota_is_full_at_its_last_byte_and_not_before,
                parallel_uploads_cannot_pass_the_quota,
                the_next_upload_above_the_bound_is_refused,
                an_upload_for_a_foreign_video_finds_nothing,
                an_upload_for_a_trashed_video_finds_nothing,
                an_abort_gives_the_reservation_back,
                an_upload_that_expired_gives_its_reservation_back,
                an_expired_upload_takes_neither_bytes_nor_completion,
                an_upload_is_moved_to_expired_once_and_not_before_its_time,
                of_two_whole_deliveries_one_wins,
                bytes_of_another_size_are_not_recorded,
                an_aborted_upload_takes_no_bytes,
                completing_before_the_bytes_are_there_is_refused,
                completing_twice_verifies_once,
                completing_a_foreign_upload_finds_nothing,
                an_upload_that_is_verified_cannot_be_aborted,
                committing_makes_the_source_current_and_the_video_uploaded,
                a_new_source_takes_the_place_of_the_old_one_and_stops_its_job,
                committing_for_a_trashed_video_plans_no_job,
                committing_without_the_lease_writes_nothing,
                a_source_is_committed_once,
                a_rejected_upload_says_why_and_gives_its_reservation_back,
                rejecting_without_the_lease_writes_nothing,
                a_committed_upload_cannot_be_rejected,
                the_offset_moves_with_its_segments_and_the_state_of_the_hash,
                a_writer_who_was_followed_moves_nothing,
                bytes_that_begin_elsewhere_find_the_offset_and_disturb_nobody,
                the_last_byte_completes_an_upload_and_writes_its_job_once,
                no_offset_passes_the_length,
                a_deferred_length_is_declared_once_and_reserved_then,
                bytes_of_an_unknown_length_count_against_the_quota_as_they_come,
                appended_bytes_put_the_expiry_off_and_never_forward,
                an_upload_that_ended_takes_no_appended_bytes,
                whole_uploads_and_resumable_ones_take_no_bytes_of_each_other,
                parts_become_one_upload_with_their_segments_in_order,
                joining_moves_the_reservation_and_needs_no_more,
                parts_that_cannot_be_joined_stay_as_they_are,
                of_two_that_join_the_same_part_one_wins,
                a_joined_upload_keeps_what_its_bytes_come_to,
                a_draft_is_made_with_its_upload_or_not_at_all,
            );
        }
    };
    (@claims $harness:expr; $($claim:ident),+ $(,)?) => { $(
        #[tokio::test]
        async fn $claim() {
            if let Some(h) = $harness.await { $crate::testkit::uploads::$claim(&h).await }
        }
    )+ };
}

async fn open(h: &VideoHarness, new: NewUpload) -> Result<Upload, UploadError> {
    h.store.create_upload(new, Causes::none()).await.map(|outcome| outcome.into_inner())
}

async fn receive(h: &VideoHarness, upload: &Upload, key: &str) -> Result<Upload, UploadError> {
    h.store.record_received(upload.id, key.to_owned(), upload.size_bytes, [3; 32]).await
}

async fn complete(h: &VideoHarness, upload: &Upload) -> Result<Upload, UploadError> {
    let job = h.new_job(UPLOADS_QUEUE, "verify", None);
    let outcome = h.store.complete_upload(upload.id, upload.user, Causes::none().job(job)).await;
    outcome.map(|outcome| outcome.into_inner())
}

async fn abort(h: &VideoHarness, upload: &Upload) -> Result<Upload, UploadError> {
    let outcome = h.store.abort_upload(upload.id, upload.user, h.now(), Causes::none()).await;
    outcome.map(|outcome| outcome.into_inner())
}

async fn read(h: &VideoHarness, id: UploadId) -> Upload {
    h.store.upload(id).await.expect("the store answers").expect("the upload exists")
}

async fn usage(h: &VideoHarness, user: UserId) -> StorageUsage {
    h.store.storage_usage(user).await.expect("the store answers")
}

async fn trash(h: &VideoHarness, video: &Video) {
    let (now, purge_at) = (h.now(), h.now().plus(Duration::from_secs(60)));
    let command = TrashVideo { id: video.id, owner: Some(video.owner), expected: None, now, purge_at };
    h.store.trash_video(command, Causes::none()).await.expect("the video is not trashed");
}

async fn live_jobs(h: &VideoHarness, video: VideoId) -> usize {
    let filter = JobFilter { video: Some(video), ..JobFilter::default() };
    let jobs = h.store.jobs(&filter, None, 100).await.expect("the store answers");
    jobs.iter().filter(|job| !job.state.is_final()).count()
}

/// What is declared counts before a byte has come.
pub async fn an_upload_reserves_its_size(h: &VideoHarness) {
    let video = h.draft(h.user().await, "Big").await;
    let upload = h.open(&video, 700).await;
    assert_eq!((UploadStatus::Open, None, 700), (upload.status, upload.staged_key.clone(), upload.size_bytes));
    assert_eq!(upload, read(h, upload.id).await);
    assert_eq!(StorageUsage { stored_bytes: 0, reserved_bytes: 700 }, usage(h, video.owner).await);
    assert_eq!(StorageUsage::default(), usage(h, h.user().await).await);
}

/// Both sides of the bound.
pub async fn the_quota_is_full_at_its_last_byte_and_not_before(h: &VideoHarness) {
    let video = h.draft(h.user().await, "Quota").await;
    let with_quota = |size| NewUpload { quota_bytes: 1000, ..h.new_upload(&video, size) };
    open(h, with_quota(600)).await.expect("there is room");
    let refused = open(h, with_quota(401)).await;
    let full = matches!(refused, Err(UploadError::QuotaExceeded { used_bytes: 600, quota_bytes: 1000 }));
    assert!(full, "{refused:?}");
    open(h, with_quota(400)).await.expect("this fills it exactly");
    assert!(matches!(open(h, with_quota(1)).await, Err(UploadError::QuotaExceeded { .. })));
}

/// Sixteen callers weigh at once; the quota holds five of their uploads.
pub async fn parallel_uploads_cannot_pass_the_quota(h: &VideoHarness) {
    let video = h.draft(h.user().await, "Rush").await;
    let attempts = (0..16).map(|_| NewUpload { quota_bytes: 599, max_open: 99, ..h.new_upload(&video, 100) });
    let outcomes = futures_util::future::join_all(attempts.map(|new| open(h, new))).await;
    assert_eq!(5, outcomes.iter().filter(|outcome| outcome.is_ok()).count());
    assert_eq!(500, usage(h, video.owner).await.reserved_bytes);
}

/// The bound is per video.
pub async fn the_next_upload_above_the_bound_is_refused(h: &VideoHarness) {
    let owner = h.user().await;
    let (video, other) = (h.draft(owner, "Busy").await, h.draft(owner, "Other").await);
    let bounded = |video| NewUpload { max_open: 2, ..h.new_upload(video, 1) };
    let first = open(h, bounded(&video)).await.expect("the first of two");
    open(h, bounded(&video)).await.expect("the second of two");
    assert!(matches!(open(h, bounded(&video)).await, Err(UploadError::TooManyOpen)));
    open(h, bounded(&other)).await.expect("another video has its own");
    abort(h, &first).await.expect("it is open");
    open(h, bounded(&video)).await.expect("one place is free again");
}

/// Nothing tells a stranger that the video exists: neither its open uploads nor an own full quota.
pub async fn an_upload_for_a_foreign_video_finds_nothing(h: &VideoHarness) {
    let (video, stranger) = (h.draft(h.user().await, "Mine").await, h.user().await);
    h.open(&video, 1).await;
    let new = NewUpload { user: stranger, max_open: 1, quota_bytes: 0, ..h.new_upload(&video, 1) };
    let absent = NewUpload { video: Some(VideoId::new(h.now(), h.entropy())), ..new.clone() };
    assert!(matches!(open(h, new).await, Err(UploadError::NotFound)));
    assert!(matches!(open(h, absent).await, Err(UploadError::NotFound)));
    assert_eq!(StorageUsage::default(), usage(h, stranger).await);
}

/// The trash takes no bytes.
pub async fn an_upload_for_a_trashed_video_finds_nothing(h: &VideoHarness) {
    let video = h.draft(h.user().await, "Gone").await;
    trash(h, &video).await;
    assert!(matches!(open(h, h.new_upload(&video, 1)).await, Err(UploadError::NotFound)));
}

/// At once.
pub async fn an_abort_gives_the_reservation_back(h: &VideoHarness) {
    let video = h.draft(h.user().await, "Changed my mind").await;
    let upload = h.received(&video, 700).await;
    assert_eq!(UploadStatus::Aborted, abort(h, &upload).await.expect("it is open").status);
    assert_eq!(StorageUsage::default(), usage(h, video.owner).await);
    let again = abort(h, &upload).await;
    let refused = matches!(again, Err(UploadError::WrongState { status: UploadStatus::Aborted, .. }));
    assert!(refused, "{again:?}");
}

/// Without anybody having cleared it.
pub async fn an_upload_that_expired_gives_its_reservation_back(h: &VideoHarness) {
    let video = h.draft(h.user().await, "Slow").await;
    let bounded = || NewUpload { quota_bytes: 1000, max_open: 1, ..h.new_upload(&video, 1000) };
    let first = open(h, bounded()).await.expect("there is room");
    h.clock.advance(first.expires_at.since(h.now()) - Duration::from_millis(1));
    assert!(open(h, bounded()).await.is_err(), "it has a millisecond left");
    h.clock.advance(Duration::from_millis(1));
    open(h, bounded()).await.expect("its time is over");
}

/// From the very moment of its expiry.
pub async fn an_expired_upload_takes_neither_bytes_nor_completion(h: &VideoHarness) {
    let video = h.draft(h.user().await, "Late").await;
    let (empty, whole) = (h.open(&video, 10).await, h.received(&video, 10).await);
    h.clock.advance(empty.expires_at.since(h.now()));
    assert!(matches!(receive(h, &empty, "staging/late").await, Err(UploadError::Expired)));
    assert!(matches!(complete(h, &whole).await, Err(UploadError::Expired)));
    assert_eq!((None, UploadStatus::Open), (read(h, empty.id).await.staged_key, read(h, whole.id).await.status));
}

/// What clearing goes by.
pub async fn an_upload_is_moved_to_expired_once_and_not_before_its_time(h: &VideoHarness) {
    let video = h.draft(h.user().await, "Left").await;
    let (upload, kept) = (h.open(&video, 10).await, h.verifying(&video, 10).await.0);
    let over = async || h.store.expired_uploads(h.now(), 10).await.expect("the store answers");
    h.clock.advance(upload.expires_at.since(h.now()));
    assert_eq!(Vec::<UploadId>::new(), over().await, "its time ends now, not before now");
    h.clock.advance(Duration::from_millis(1));
    assert_eq!(vec![upload.id], over().await);
    assert!(!h.store.expire_upload(upload.id, upload.created_at).await.expect("the store answers"));
    assert!(h.store.expire_upload(upload.id, h.now()).await.expect("the store answers"));
    assert!(!h.store.expire_upload(upload.id, h.now()).await.expect("the store answers"));
    assert!(!h.store.expire_upload(kept.id, h.now()).await.expect("the store answers"));
    assert!(over().await.is_empty());
    assert_eq!(UploadStatus::Expired, read(h, upload.id).await.status);
    assert_eq!(StorageUsage { stored_bytes: 0, reserved_bytes: 10 }, usage(h, video.owner).await);
}

/// The compare-and-set that spends the URL.
pub async fn of_two_whole_deliveries_one_wins(h: &VideoHarness) {
    let upload = h.open(&h.draft(h.user().await, "Twice").await, 10).await;
    let (one, two) = tokio::join!(receive(h, &upload, "staging/one"), receive(h, &upload, "staging/two"));
    let (won, lost) = if one.is_ok() { (one, two) } else { (two, one) };
    assert!(matches!(lost, Err(UploadError::AlreadyReceived)), "{lost:?}");
    let won = won.expect("one of them wins");
    assert_eq!((won.clone(), Some([3; 32])), (read(h, upload.id).await, won.received_sha256));
}

/// The size is a promise.
pub async fn bytes_of_another_size_are_not_recorded(h: &VideoHarness) {
    let upload = h.open(&h.draft(h.user().await, "Short").await, 10).await;
    for received in [9, 11] {
        let outcome = h.store.record_received(upload.id, "staging/x".to_owned(), received, [3; 32]).await;
        let told = matches!(outcome, Err(UploadError::SizeMismatch { declared: 10, received: r }) if r == received);
        assert!(told, "{outcome:?}");
    }
    assert_eq!(upload, read(h, upload.id).await);
}

/// A delivery that was on its way comes too late.
pub async fn an_aborted_upload_takes_no_bytes(h: &VideoHarness) {
    let upload = h.open(&h.draft(h.user().await, "Aborted").await, 10).await;
    abort(h, &upload).await.expect("it is open");
    let outcome = receive(h, &upload, "staging/late").await;
    assert!(matches!(outcome, Err(UploadError::WrongState { .. })), "{outcome:?}");
    assert_eq!(None, read(h, upload.id).await.staged_key);
}

/// And enqueues nothing.
pub async fn completing_before_the_bytes_are_there_is_refused(h: &VideoHarness) {
    let upload = h.open(&h.draft(h.user().await, "Hasty").await, 10).await;
    assert!(matches!(complete(h, &upload).await, Err(UploadError::NoBytes)));
    assert_eq!(upload, read(h, upload.id).await);
    assert!(h.store.jobs(&JobFilter::default(), None, 10).await.expect("the store answers").is_empty());
}

/// The second call is answered like the first and causes nothing.
pub async fn completing_twice_verifies_once(h: &VideoHarness) {
    let upload = h.received(&h.draft(h.user().await, "Sure").await, 10).await;
    let first = complete(h, &upload).await.expect("the bytes are there");
    assert_eq!(UploadStatus::Verifying, first.status);
    assert_eq!(first, complete(h, &upload).await.expect("it is verifying already"));
    assert_eq!(1, h.store.jobs(&JobFilter::default(), None, 10).await.expect("the store answers").len());
}

/// So does aborting it.
pub async fn completing_a_foreign_upload_finds_nothing(h: &VideoHarness) {
    let upload = h.received(&h.draft(h.user().await, "Mine").await, 10).await;
    let foreign = Upload { user: h.user().await, ..upload.clone() };
    assert!(matches!(complete(h, &foreign).await, Err(UploadError::NotFound)));
    assert!(matches!(abort(h, &foreign).await, Err(UploadError::NotFound)));
    assert_eq!(upload, read(h, upload.id).await);
}

/// Its bytes are pinned: it ends one way or the other by itself.
pub async fn an_upload_that_is_verified_cannot_be_aborted(h: &VideoHarness) {
    let (upload, _) = h.verifying(&h.draft(h.user().await, "Too late").await, 10).await;
    let outcome = abort(h, &upload).await;
    let refused = matches!(outcome, Err(UploadError::WrongState { status: UploadStatus::Verifying, .. }));
    assert!(refused, "{outcome:?}");
    assert_eq!(upload, read(h, upload.id).await);
}

/// Upload, source, object, video and job in one transaction.
pub async fn committing_makes_the_source_current_and_the_video_uploaded(h: &VideoHarness) {
    let video = h.draft(h.user().await, "Arrived").await;
    let (upload, lease) = h.verifying(&video, 10).await;
    let command = h.commit(&upload, lease.fence());
    let causes = Causes::none().job(h.process_job(&command.source));
    h.store.commit_source(command.clone(), causes).await.expect("the lease is held");
    assert_eq!(UploadStatus::Complete, read(h, upload.id).await.status);
    assert_eq!(Some(command.source), h.store.current_source(video.id).await.expect("the store answers"));
    assert_eq!(Some(command.object.clone()), h.store.object(&command.object.key).await.expect("the store answers"));
    let uploaded = h.video(video.id).await;
    assert_eq!((VideoStatus::Uploaded, video.version + 1), (uploaded.status, uploaded.version));
    assert_eq!(1, live_jobs(h, video.id).await);
    assert_eq!(StorageUsage { stored_bytes: 10, reserved_bytes: 0 }, usage(h, video.owner).await);
}

/// The old one stays stored and counted.
pub async fn a_new_source_takes_the_place_of_the_old_one_and_stops_its_job(h: &VideoHarness) {
    let video = h.draft(h.user().await, "Again").await;
    let first = h.sourced(&video).await;
    h.planned(&first, &["360p"]).await;
    let second = h.commit_source(&video).await;
    assert_eq!(Some(second.clone()), h.store.current_source(video.id).await.expect("the store answers"));
    assert_eq!(VideoStatus::Uploaded, h.video(video.id).await.status);
    let beat = h.store.heartbeat(first.lease.fence(), Duration::from_secs(1), None).await;
    assert!(beat.expect("the lease is held").cancel);
    let next = h.claim(VIDEO_QUEUE).await;
    assert_eq!(h.process_job(&second).payload, next.job.payload);
    assert!(h.store.object(&first.source.object_key).await.expect("the store answers").is_some());
    assert_eq!(2000, usage(h, video.owner).await.stored_bytes);
}

/// Restoring plans it.
pub async fn committing_for_a_trashed_video_plans_no_job(h: &VideoHarness) {
    let video = h.draft(h.user().await, "Gone").await;
    let (upload, lease) = h.verifying(&video, 10).await;
    trash(h, &video).await;
    let command = h.commit(&upload, lease.fence());
    let causes = Causes::none().job(h.process_job(&command.source));
    h.store.commit_source(command, causes).await.expect("the lease is held");
    assert_eq!((UploadStatus::Complete, 0), (read(h, upload.id).await.status, live_jobs(h, video.id).await));
    let trashed = h.video(video.id).await;
    assert_eq!((VideoStatus::Uploaded, true), (trashed.status, trashed.deleted_at.is_some()));
}

/// Whoever lost the lease discards what it found.
pub async fn committing_without_the_lease_writes_nothing(h: &VideoHarness) {
    let video = h.draft(h.user().await, "Fenced").await;
    let (upload, _) = h.verifying(&video, 10).await;
    let command = h.commit(&upload, h.lost_fence().await);
    let causes = Causes::none().job(h.process_job(&command.source));
    assert!(matches!(h.store.commit_source(command.clone(), causes).await, Err(UploadError::Fenced)));
    assert_eq!((upload, video.clone()), (read(h, command.upload).await, h.video(video.id).await));
    assert_eq!(None, h.store.current_source(video.id).await.expect("the store answers"));
    assert_eq!(None, h.store.object(&command.object.key).await.expect("the store answers"));
    assert_eq!(0, live_jobs(h, video.id).await);
}

/// A repeated attempt learns that it is late.
pub async fn a_source_is_committed_once(h: &VideoHarness) {
    let video = h.draft(h.user().await, "Once").await;
    let (upload, lease) = h.verifying(&video, 10).await;
    h.store.commit_source(h.commit(&upload, lease.fence()), Causes::none()).await.expect("the lease is held");
    let source = h.store.current_source(video.id).await.expect("the store answers");
    let again = h.store.commit_source(h.commit(&upload, lease.fence()), Causes::none()).await;
    assert!(matches!(again, Err(UploadError::WrongState { status: UploadStatus::Complete, .. })), "{again:?}");
    assert_eq!(source, h.store.current_source(video.id).await.expect("the store answers"));
}

/// The video is what it was.
pub async fn a_rejected_upload_says_why_and_gives_its_reservation_back(h: &VideoHarness) {
    let video = h.draft(h.user().await, "Text").await;
    let (upload, lease) = h.verifying(&video, 10).await;
    let reason = "This is a text file.".to_owned();
    h.store.reject_upload(lease.fence(), upload.id, reason.clone(), h.now()).await.expect("the lease is held");
    let rejected = read(h, upload.id).await;
    assert_eq!((UploadStatus::Rejected, Some(reason)), (rejected.status, rejected.reason));
    assert_eq!(video, h.video(video.id).await);
    assert_eq!(StorageUsage::default(), usage(h, video.owner).await);
}

/// Whoever lost the lease judges nothing.
pub async fn rejecting_without_the_lease_writes_nothing(h: &VideoHarness) {
    let (upload, _) = h.verifying(&h.draft(h.user().await, "Fenced").await, 10).await;
    let fence = h.lost_fence().await;
    let outcome = h.store.reject_upload(fence, upload.id, "No.".to_owned(), h.now()).await;
    assert!(matches!(outcome, Err(UploadError::Fenced)), "{outcome:?}");
    assert_eq!(upload, read(h, upload.id).await);
}

/// Its bytes are somebody's source now.
pub async fn a_committed_upload_cannot_be_rejected(h: &VideoHarness) {
    let (upload, lease) = h.verifying(&h.draft(h.user().await, "Kept").await, 10).await;
    h.store.commit_source(h.commit(&upload, lease.fence()), Causes::none()).await.expect("the lease is held");
    let outcome = h.store.reject_upload(lease.fence(), upload.id, "No.".to_owned(), h.now()).await;
    assert!(matches!(outcome, Err(UploadError::WrongState { status: UploadStatus::Complete, .. })), "{outcome:?}");
    let kept = read(h, upload.id).await;
    assert_eq!((UploadStatus::Complete, None), (kept.status, kept.reason));
    let states: Vec<_> = h.store.jobs(&JobFilter::default(), None, 10).await.expect("the store answers");
    assert!(states.iter().all(|job| job.state == JobState::Leased));
}
