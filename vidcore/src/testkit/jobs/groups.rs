//! Fan-out and fan-in: jobs that one job causes, and the one that follows them.

use crate::id::JobGroupId;
use crate::jobs::{AfterFailure, Job, JobFilter, JobState, NewJob, NewJobGroup};
use crate::store::Causes;
use crate::testkit::jobs::{JobHarness, LEASE};

/// Causes of `members` jobs in a group that `next` follows.
fn fan_out(h: &JobHarness, members: usize) -> Causes {
    let id = JobGroupId::from_bytes(*h.job_id().as_bytes());
    let group = NewJobGroup { id, next: h.new_job("next") };
    (0..members).fold(Causes::none().group(group), |causes, _| {
        causes.job(NewJob { group: Some(id), max_attempts: 1, ..h.new_job("member") })
    })
}

/// Enqueues a job, claims it and completes it with `causes`.
async fn complete_with(h: &JobHarness, causes: Causes) {
    let lease = h.leased("probe").await;
    h.store.complete(lease.fence(), causes).await.expect("it is held");
}

async fn followers(h: &JobHarness) -> Vec<Job> {
    let filter = JobFilter { kind: Some("next".to_owned()), ..JobFilter::default() };
    h.store.jobs(&filter, None, 10).await.expect("the store answers")
}

/// The last member to end writes what follows, and no earlier one does.
pub async fn a_group_is_followed_once_its_last_job_has_ended(h: &JobHarness) {
    complete_with(h, fan_out(h, 3)).await;
    for lease in h.lease_up_to(3).await {
        assert!(followers(h).await.is_empty());
        h.store.complete(lease.fence(), Causes::none()).await.expect("it is held");
    }
    let [next] = followers(h).await.try_into().expect("it is written once");
    assert_eq!(Some(next.id), h.lease().await.map(|lease| lease.job.id), "it is claimable");
}

/// Dead, cancelled and lost members have ended too.
pub async fn however_a_member_ends_it_counts(h: &JobHarness) {
    complete_with(h, fan_out(h, 4)).await;
    let leases = h.lease_up_to(3).await;
    h.store.fail(leases[0].fence(), "x".to_owned(), AfterFailure::Dead).await.expect("it is held");
    h.store.cancel(leases[1].job.id, None, Causes::none()).await.expect("it is live");
    h.store.settle_cancelled(leases[1].fence()).await.expect("it is held");
    let filter = JobFilter { state: Some(JobState::Queued), ..JobFilter::default() };
    let waiting = h.store.jobs(&filter, None, 10).await.expect("the store answers");
    h.store.cancel(waiting[0].id, None, Causes::none()).await.expect("it is live");
    assert!(followers(h).await.is_empty(), "one still runs");
    h.clock.advance(LEASE);
    assert_eq!(1, h.store.sweep().await.expect("the store answers").dead);
    assert_eq!(1, followers(h).await.len());
}

/// A retried or released member has not ended.
pub async fn a_member_that_is_tried_again_does_not_count(h: &JobHarness) {
    complete_with(h, fan_out(h, 1)).await;
    let lease = h.lease().await.expect("it is due");
    h.store.release(lease.fence()).await.expect("it is held");
    assert!(followers(h).await.is_empty());
    let lease = h.lease().await.expect("it is due again");
    h.store.complete(lease.fence(), Causes::none()).await.expect("it is held");
    assert_eq!(1, followers(h).await.len());
}

/// A dead member that is replayed ends a second time without a second follower.
pub async fn a_replayed_member_does_not_count_twice(h: &JobHarness) {
    complete_with(h, fan_out(h, 2)).await;
    let leases = h.lease_up_to(2).await;
    h.store.fail(leases[0].fence(), "x".to_owned(), AfterFailure::Dead).await.expect("it is held");
    h.store.retry(leases[0].job.id, None, Causes::none()).await.expect("it is dead");
    let again = h.lease().await.expect("it is due again");
    h.store.complete(again.fence(), Causes::none()).await.expect("it is held");
    assert!(followers(h).await.is_empty(), "the other one still runs");
    h.store.complete(leases[1].fence(), Causes::none()).await.expect("it is held");
    assert_eq!(1, followers(h).await.len());
}

/// A group without a job of its own is followed at once: each of them had a live twin.
pub async fn a_group_none_of_whose_jobs_was_written_is_followed_at_once(h: &JobHarness) {
    let keyed = |job: NewJob| NewJob { unique_key: Some("rendition 1".to_owned()), ..job };
    h.enqueue(keyed(h.new_job("twin"))).await;
    h.lease().await.expect("it is due");
    let mut causes = fan_out(h, 1);
    causes.jobs = causes.jobs.into_iter().map(keyed).collect();
    complete_with(h, causes).await;
    assert_eq!(1, followers(h).await.len());
}

/// Fan-out is one with the completion: a fenced worker fans nothing out.
pub async fn a_fenced_completion_fans_nothing_out(h: &JobHarness) {
    let lease = h.leased("probe").await;
    h.lose_leases().await;
    assert!(h.store.complete(lease.fence(), fan_out(h, 2)).await.is_err());
    let filter = JobFilter { kind: Some("member".to_owned()), ..JobFilter::default() };
    assert!(h.store.jobs(&filter, None, 10).await.expect("the store answers").is_empty());
    assert!(followers(h).await.is_empty());
}
