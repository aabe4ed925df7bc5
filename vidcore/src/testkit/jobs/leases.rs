//! What a lease is worth, how long it holds, and what frees a job from it.

use std::time::Duration;

use crate::catalog::CatalogError;
use crate::id::RenditionId;
use crate::jobs::{AfterFailure, JobError, JobState, Lease, NewJob, Swept};
use crate::media::PublishRendition;
use crate::store::{Causes, Fence};
use crate::testkit::jobs::{JobHarness, LEASE};

const MILLISECOND: Duration = Duration::from_millis(1);

fn lost<T: std::fmt::Debug>(answer: Result<T, JobError>) -> bool {
    matches!(answer, Err(JobError::LeaseLost { .. }))
}

async fn publish(h: &JobHarness, fence: Fence) -> Result<(), CatalogError> {
    let command = PublishRendition {
        fence,
        rendition: RenditionId::from_bytes([1; 16]),
        bandwidth: None,
        codecs: None,
        objects: Vec::new(),
        now: h.now(),
    };
    h.store.publish_rendition(command, Causes::none()).await.map(|_| ())
}

/// Once a job was claimed again, no write of its earlier attempt does anything.
pub async fn an_old_token_changes_nothing(h: &JobHarness) {
    let old = h.leased("transcode").await.fence();
    h.lose_leases().await;
    let new = h.lease().await.expect("it was freed");
    let before = h.job(old.job).await;
    let caused = h.new_job("caused");
    let caused_id = caused.id;
    assert!(lost(h.store.heartbeat(old, LEASE * 9, Some(900)).await));
    assert!(lost(h.store.complete(old, Causes::none().job(caused)).await));
    assert!(lost(h.store.fail(old, "late".to_owned(), AfterFailure::Dead).await));
    assert!(lost(h.store.fail(old, "late".to_owned(), AfterFailure::RetryAt(h.now())).await));
    assert!(lost(h.store.release(old).await));
    assert!(lost(h.store.settle_cancelled(old).await));
    assert!(matches!(publish(h, old).await, Err(CatalogError::Fenced)));
    assert_eq!(before, h.job(old.job).await);
    assert_eq!(None, h.store.job(caused_id).await.expect("the store answers"));
    h.store.complete(new.fence(), Causes::none()).await.expect("the new attempt is untouched");
}

/// The store's clock ends a lease, not the sweep.
pub async fn a_lease_ends_on_time_whether_or_not_it_was_swept(h: &JobHarness) {
    let lease = h.leased("transcode").await;
    assert_eq!(h.now().plus(LEASE), lease.until);
    h.clock.advance(LEASE - MILLISECOND);
    h.store.heartbeat(lease.fence(), MILLISECOND * 2, None).await.expect("it holds to the last millisecond");
    h.clock.advance(MILLISECOND * 2);
    assert!(lost(h.store.complete(lease.fence(), Causes::none()).await));
    assert!(lost(h.store.heartbeat(lease.fence(), LEASE, None).await));
    assert_eq!(JobState::Leased, h.job(lease.job.id).await.state);
}

/// A worker that renews is never robbed, however long it works.
pub async fn a_heartbeat_keeps_the_lease(h: &JobHarness) {
    let lease = h.leased("transcode").await;
    for _ in 0..5 {
        h.clock.advance(LEASE - MILLISECOND);
        let beat = h.store.heartbeat(lease.fence(), LEASE, None).await.expect("it is held");
        assert_eq!((h.now().plus(LEASE), false), (beat.until, beat.cancel));
        assert_eq!(Swept::default(), h.store.sweep().await.expect("the store answers"));
        assert!(h.lease().await.is_none());
    }
    h.store.complete(lease.fence(), Causes::none()).await.expect("it is still held");
}

/// Recovery: what a lost worker held can be claimed after a sweep; what others hold stays theirs.
pub async fn a_sweep_frees_expired_leases_and_no_others(h: &JobHarness) {
    let lost_lease = h.leased("lost").await;
    h.clock.advance(MILLISECOND);
    let held = h.leased("held").await;
    h.clock.advance(LEASE - MILLISECOND);
    assert_eq!(Swept { rescued: 1, dead: 0 }, h.store.sweep().await.expect("the store answers"));
    assert_eq!(Swept::default(), h.store.sweep().await.expect("the store answers"));
    assert_eq!(JobState::Leased, h.job(held.job.id).await.state);
    let again = h.lease().await.expect("the lost one was freed");
    assert_eq!((lost_lease.job.id, 2), (again.job.id, again.job.attempts));
    assert!(again.job.last_error.is_some(), "the row says why there is a second attempt");
}

/// An attempt that leaves no trace was one all the same.
pub async fn an_attempt_counts_when_it_is_claimed(h: &JobHarness) {
    let lease = h.leased("transcode").await;
    assert_eq!((1, 1), (lease.job.attempts, h.job(lease.job.id).await.attempts));
}

/// Given back, a job is as it was: uncounted, without an error, and first in its line.
pub async fn a_released_attempt_is_uncounted_and_the_job_keeps_its_place(h: &JobHarness) {
    let first: Lease = h.leased("first").await;
    h.clock.advance(MILLISECOND);
    h.enqueued("second").await;
    h.store.release(first.fence()).await.expect("it is given back");
    let job = h.job(first.job.id).await;
    assert_eq!((JobState::Queued, 0, None), (job.state, job.attempts, job.last_error));
    let again = h.lease().await.expect("it is due at once");
    assert_eq!((first.job.id, 1), (again.job.id, again.job.attempts));
}

/// Put off, a job waits for its moment and has all its attempts left, however often that happens.
pub async fn a_postponed_attempt_is_uncounted_and_its_job_waits_for_its_moment(h: &JobHarness) {
    let id = h.enqueue(NewJob { max_attempts: 1, ..h.new_job("transcode") }).await.id;
    for _ in 0..3 {
        let lease = h.lease().await.expect("it is due");
        assert_eq!((id, 1), (lease.job.id, lease.job.attempts));
        let later = AfterFailure::PostponeTo(h.now().plus(MILLISECOND));
        let state = h.store.fail(lease.fence(), "no room".to_owned(), later).await.expect("it is held");
        assert_eq!(JobState::Queued, state);
        let job = h.job(id).await;
        assert_eq!((0, Some("no room")), (job.attempts, job.last_error.as_deref()));
        assert!(h.lease().await.is_none(), "its moment has not come");
        h.clock.advance(MILLISECOND);
    }
}

/// Progress grows within an attempt, is cut at 1000, starts over with the next, and ends full.
pub async fn progress_is_never_lowered(h: &JobHarness) {
    let lease = h.leased("transcode").await;
    for (reported, shown) in [(Some(400), 400), (Some(300), 400), (None, 400), (Some(9000), 1000)] {
        h.store.heartbeat(lease.fence(), LEASE, reported).await.expect("it is held");
        assert_eq!(shown, h.job(lease.job.id).await.progress, "after {reported:?}");
    }
    h.lose_leases().await;
    let again = h.lease().await.expect("it was freed");
    assert_eq!(0, again.job.progress);
    h.store.complete(again.fence(), Causes::none()).await.expect("it is held");
    assert_eq!(1000, h.job(lease.job.id).await.progress);
}

/// A failed attempt goes back into the queue, with its reason, and waits.
pub async fn a_failed_job_is_not_due_before_its_backoff_ends(h: &JobHarness) {
    let lease = h.leased("transcode").await;
    let backoff = Duration::from_secs(7);
    let after = AfterFailure::RetryAt(h.now().plus(backoff));
    let state = h.store.fail(lease.fence(), "no space".to_owned(), after).await.expect("it is held");
    assert_eq!(JobState::Queued, state);
    assert_eq!(Some("no space".to_owned()), h.job(lease.job.id).await.last_error);
    h.clock.advance(backoff - MILLISECOND);
    assert!(h.lease().await.is_none());
    h.clock.advance(MILLISECOND);
    assert_eq!(Some(2), h.lease().await.map(|lease| lease.job.attempts));
}

/// What a settlement causes exists exactly when the settlement does.
pub async fn causes_are_written_with_the_settlement_or_not_at_all(h: &JobHarness) {
    let refused = h.new_job("refused");
    let written = h.new_job("written");
    let (refused_id, written_id) = (refused.id, written.id);
    let lease = h.leased("transcode").await;
    let wrong = Fence { token: lease.token + 1, ..lease.fence() };
    assert!(lost(h.store.complete(wrong, Causes::none().job(refused)).await));
    h.store.complete(lease.fence(), Causes::none().job(written)).await.expect("it is held");
    assert_eq!(None, h.store.job(refused_id).await.expect("the store answers"));
    assert_eq!(JobState::Queued, h.job(written_id).await.state);
    assert_eq!(JobState::Done, h.job(lease.job.id).await.state);
    let duplicate = NewJob { id: written_id, ..h.new_job("duplicate") };
    assert!(h.store.enqueue(h.new_job("cause"), Causes::none().job(duplicate)).await.is_err());
    assert_eq!(1, h.lease_up_to(10).await.len(), "a command whose cause cannot be written writes nothing");
}
