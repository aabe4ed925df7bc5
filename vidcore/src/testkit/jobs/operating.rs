//! What operators and the clock do: bulk replay, schedules, history, forgetting.

use std::time::Duration;

use crate::jobs::{
    AfterFailure, AttemptOutcome, Claim, Job, JobFilter, JobRetention, JobState, NewJob, QueueName, Replay,
};
use crate::store::{Causes, Outcome};
use crate::testkit::jobs::{JobHarness, LEASE};

const MINUTE: Duration = Duration::from_secs(60);

/// A job that is dead.
async fn dead(h: &JobHarness, job: NewJob) -> Job {
    let id = h.enqueue(job).await.id;
    let lease = h.lease().await.expect("it is due");
    assert_eq!(id, lease.job.id);
    h.store.fail(lease.fence(), "broken".to_owned(), AfterFailure::Dead).await.expect("it is held");
    h.job(id).await
}

async fn replay(h: &JobHarness, filter: JobFilter, limit: u16) -> Replay {
    h.store.replay(&filter, limit, Causes::none()).await.map(Outcome::into_inner).expect("the store answers")
}

async fn fire(h: &JobHarness, name: &str) -> bool {
    let job = NewJob { unique_key: Some(format!("cron:{name}")), ..h.new_job(name) };
    h.store.fire(name, h.now(), job).await.expect("the store answers")
}

/// Dead jobs come back with all their attempts; those that ended otherwise stay as they are.
pub async fn dead_jobs_are_replayed_in_bulk(h: &JobHarness) {
    for _ in 0..3 {
        dead(h, h.new_job("transcode")).await;
    }
    let done = h.leased("done").await;
    h.store.complete(done.fence(), Causes::none()).await.expect("it is held");
    let any = JobFilter::default();
    assert_eq!(Replay { replayed: 2, left_out: 0, more: true }, replay(h, any.clone(), 2).await);
    assert_eq!(Replay { replayed: 1, left_out: 0, more: false }, replay(h, any.clone(), 2).await);
    assert_eq!(Replay::default(), replay(h, any, 2).await);
    let leases = h.lease_up_to(10).await;
    assert_eq!([1, 1, 1], *leases.iter().map(|lease| lease.job.attempts).collect::<Vec<_>>());
    assert_eq!(JobState::Done, h.job(done.job.id).await.state);
}

/// The filter says which; a live job of the same unique key keeps a dead one dead.
pub async fn a_bulk_replay_keeps_to_its_filter(h: &JobHarness) {
    let owner = Some(h.user_id());
    let mine = dead(h, NewJob { owner, ..h.new_job("mine") }).await;
    let others = dead(h, h.new_job("others")).await;
    let keyed = || NewJob { owner, unique_key: Some("one".to_owned()), ..h.new_job("keyed") };
    let twin = dead(h, keyed()).await;
    h.enqueue(keyed()).await;
    let filter = JobFilter { owner, ..JobFilter::default() };
    assert_eq!(Replay { replayed: 1, left_out: 1, more: false }, replay(h, filter, 10).await);
    let states = [h.job(mine.id).await.state, h.job(others.id).await.state, h.job(twin.id).await.state];
    assert_eq!([JobState::Queued, JobState::Dead, JobState::Dead], states);
    let kind = Some("others".to_owned());
    assert_eq!(1, replay(h, JobFilter { kind, ..JobFilter::default() }, 10).await.replayed);
    let queue = Some(QueueName::new("elsewhere"));
    assert_eq!(Replay::default(), replay(h, JobFilter { queue, ..JobFilter::default() }, 10).await);
}

/// However many nodes tell of one moment, it has one job.
pub async fn a_moment_of_a_schedule_has_one_job_whatever_the_number_of_nodes(h: &JobHarness) {
    assert!(!fire(h, "nightly").await, "a schedule begins with its next moment");
    h.clock.advance(MINUTE);
    let fired = futures_util::future::join_all((0..64).map(|_| fire(h, "nightly"))).await;
    assert_eq!(1, fired.into_iter().filter(|written| *written).count());
    assert_eq!(1, h.lease_up_to(64).await.len());
}

/// A job for each moment, but none beside one that is still live; other schedules are their own.
pub async fn a_schedule_waits_for_its_last_job(h: &JobHarness) {
    fire(h, "nightly").await;
    fire(h, "hourly").await;
    h.clock.advance(MINUTE);
    assert!(fire(h, "nightly").await);
    h.clock.advance(MINUTE);
    assert!(!fire(h, "nightly").await, "the first one has not ended");
    assert!(fire(h, "hourly").await);
    for lease in h.lease_up_to(2).await {
        h.store.complete(lease.fence(), Causes::none()).await.expect("it is held");
    }
    assert!(!fire(h, "nightly").await, "this moment is over");
    h.clock.advance(MINUTE);
    assert!(fire(h, "nightly").await);
}

/// A moment that comes late, from a node whose clock lags, is over already.
pub async fn an_earlier_moment_is_never_made_up_for(h: &JobHarness) {
    let early = h.now();
    fire(h, "nightly").await;
    h.clock.advance(MINUTE);
    assert!(fire(h, "nightly").await);
    let late = h.store.fire("nightly", early, h.new_job("nightly")).await.expect("the store answers");
    assert!(!late);
}

/// A job keeps the history of its claims, newest first.
pub async fn a_job_keeps_the_history_of_its_claims(h: &JobHarness) {
    let id = h.enqueued("transcode").await.id;
    let lost = h.lease().await.expect("it is due");
    h.lose_leases().await;
    let released = h.lease().await.expect("it is due");
    h.store.release(released.fence()).await.expect("it is held");
    let failed = h.lease().await.expect("it is due");
    let again = AfterFailure::RetryAt(h.now());
    h.store.fail(failed.fence(), "broken".to_owned(), again).await.expect("it is held");
    let running = h.lease().await.expect("it is due");
    let history = h.store.attempts(id).await.expect("the store answers");
    let told: Vec<_> = history.iter().map(|attempt| (attempt.token, attempt.outcome)).collect();
    assert_eq!(
        [
            (running.token, None),
            (failed.token, Some(AttemptOutcome::Failed)),
            (released.token, Some(AttemptOutcome::Released)),
            (lost.token, Some(AttemptOutcome::Lost)),
        ],
        *told
    );
    assert_eq!(Some("broken"), history[1].error.as_deref());
    assert!(history.iter().all(|attempt| attempt.worker == "tester"));
    assert_eq!(Some(LEASE), history[3].ended_at.map(|end| end.since(history[3].started_at)));
}

/// What ended long ago is forgotten, dead jobs later than others, live ones never.
pub async fn ended_jobs_are_kept_for_their_time(h: &JobHarness) {
    let done = h.leased("done").await;
    h.store.complete(done.fence(), Causes::none()).await.expect("it is held");
    let cancelled = h.enqueued("cancelled").await.id;
    h.store.cancel(cancelled, None, Causes::none()).await.expect("it is live");
    let dead = dead(h, h.new_job("dead")).await.id;
    let live = h.enqueued("live").await.id;
    let there = async || {
        let mut kinds: Vec<_> = h.store.jobs(&JobFilter::default(), None, 10).await.expect("the store answers");
        kinds.sort_by_key(|job| job.created_at);
        kinds.into_iter().map(|job| job.id).collect::<Vec<_>>()
    };
    let end = h.now();
    h.clock.advance(MINUTE);
    let prune = async |done_before, dead_before, limit| {
        let retention = JobRetention { done_before, dead_before };
        h.store.prune_jobs(retention, limit).await.expect("the store answers")
    };
    assert_eq!(0, prune(end, end, 10).await, "they ended at that moment, not before");
    assert_eq!(1, prune(h.now(), end, 1).await, "no more than asked for go at once");
    assert_eq!(1, prune(h.now(), end, 10).await);
    assert!(h.store.attempts(done.job.id).await.expect("the store answers").is_empty());
    assert_eq!(2, there().await.len());
    assert_eq!(1, prune(h.now(), h.now(), 10).await);
    assert_eq!([live], *there().await);
    assert!(h.store.job(dead).await.expect("the store answers").is_none());
    assert!(h.lease().await.is_some());
}

/// A node whose clock was years ahead for a moment does not stop a schedule for years.
pub async fn a_schedule_noted_by_a_wrong_clock_begins_anew(h: &JobHarness) {
    fire(h, "nightly").await;
    let wrong = h.now().plus(MINUTE * 60 * 24 * 365);
    h.store.fire("nightly", wrong, h.new_job("nightly")).await.expect("the store answers");
    h.clock.advance(MINUTE);
    assert!(!fire(h, "nightly").await, "it begins with its next moment");
    h.clock.advance(MINUTE);
    assert!(fire(h, "nightly").await);
}

/// Nor does it hold a job for years: the lease that it gave is as good as run out.
pub async fn a_lease_given_by_a_wrong_clock_is_freed(h: &JobHarness) {
    h.enqueued("transcode").await;
    let claim = Claim { lease_for: MINUTE * 60 * 24 * 365, ..h.claim(&[crate::testkit::jobs::QUEUE], 1) };
    let stuck = h.store.lease(claim).await.expect("the store answers").pop().expect("it is due");
    assert_eq!(1, h.store.sweep().await.expect("the store answers").rescued);
    let next = h.lease().await.expect("it was freed");
    assert_eq!(stuck.job.id, next.job.id);
    assert!(h.store.complete(stuck.fence(), Causes::none()).await.is_err(), "and its attempt is fenced");
}
