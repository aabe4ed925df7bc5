//! How jobs end, what follows, and what comes back.

use crate::id::JobId;
use crate::jobs::{AfterFailure, Death, Job, JobError, JobState, NewJob, Swept};
use crate::store::{Causes, Outcome};
use crate::testkit::jobs::{JobHarness, LEASE};

/// Claims the next job and fails it.
async fn fail(h: &JobHarness, after: AfterFailure) -> Job {
    let lease = h.lease().await.expect("a job is due");
    let state = h.store.fail(lease.fence(), "broken".to_owned(), after).await.expect("it is held");
    let job = h.job(lease.job.id).await;
    assert_eq!(state, job.state);
    job
}

async fn kill(h: &JobHarness) -> Job {
    fail(h, AfterFailure::Dead).await
}

async fn replay(h: &JobHarness, id: JobId) -> Result<Job, JobError> {
    h.store.retry(id, None, Causes::none()).await.map(Outcome::into_inner)
}

async fn cancel(h: &JobHarness, id: JobId) -> Result<Job, JobError> {
    h.store.cancel(id, None, Causes::none()).await.map(Outcome::into_inner)
}

/// The jobs called `follow_up`.
async fn follow_ups(h: &JobHarness) -> Vec<Job> {
    let all = h.store.jobs(&crate::jobs::JobFilter::default(), None, 100).await.expect("the store answers");
    all.into_iter().filter(|job| job.kind == "follow_up").collect()
}

/// A job with a follow-up, an owner and a video.
fn followed(h: &JobHarness) -> NewJob {
    let (owner, video) = (Some(h.user_id()), Some(h.video_id()));
    NewJob { on_dead: Some(h.follow_up()), owner, video, ..h.new_job("transcode") }
}

/// The last allowed attempt that fails is the end.
pub async fn a_job_dies_with_its_last_attempt(h: &JobHarness) {
    h.enqueue(NewJob { max_attempts: 2, ..h.new_job("transcode") }).await;
    let again = AfterFailure::RetryAt(h.now());
    assert_eq!(JobState::Queued, fail(h, again).await.state);
    let dead = fail(h, again).await;
    assert_eq!((JobState::Dead, Some(Death::Exhausted), 2), (dead.state, dead.death, dead.attempts));
    assert_eq!((Some("broken".to_owned()), Some(h.now())), (dead.last_error, dead.finished_at));
    assert!(h.lease().await.is_none());
}

/// A poison job, which takes each of its workers down, is given up.
pub async fn a_job_whose_workers_all_go_away_dies(h: &JobHarness) {
    let job = h.enqueued("poison").await;
    for attempt in 1..=3 {
        let lease = h.lease().await.expect("it is due");
        assert_eq!(attempt, lease.job.attempts);
        let swept = h.lose_leases().await;
        assert_eq!(Swept { rescued: u64::from(attempt < 3), dead: u64::from(attempt == 3) }, swept);
    }
    let dead = h.job(job.id).await;
    assert_eq!((JobState::Dead, Some(Death::Lost)), (dead.state, dead.death));
    assert!(h.lease().await.is_none());
}

/// What cannot succeed is not tried again.
pub async fn a_permanent_failure_kills_at_once(h: &JobHarness) {
    h.enqueued("transcode").await;
    let dead = kill(h).await;
    assert_eq!((JobState::Dead, Some(Death::Permanent), 1), (dead.state, dead.death, dead.attempts));
}

/// Death and follow-up are one: the follow-up is there once, for the same owner, video and queue.
pub async fn a_death_writes_the_follow_up_once(h: &JobHarness) {
    let new = followed(h);
    let expected = new.on_dead.clone().expect("it has one");
    h.enqueue(new).await;
    let dead = kill(h).await;
    assert!(h.store.sweep().await.is_ok());
    let [follow_up] = follow_ups(h).await.try_into().expect("there is one");
    assert_eq!((expected.id, expected.payload, 5), (follow_up.id, follow_up.payload, follow_up.max_attempts));
    assert_eq!((dead.owner, dead.video, dead.queue), (follow_up.owner, follow_up.video, follow_up.queue));
    assert_eq!(Some(follow_up.id), h.lease().await.map(|lease| lease.job.id));
}

/// A worker that went away with the last attempt leaves the follow-up to the sweep.
pub async fn a_death_by_sweep_writes_the_follow_up_once(h: &JobHarness) {
    h.enqueue(NewJob { max_attempts: 1, ..followed(h) }).await;
    assert!(h.lease().await.is_some());
    h.clock.advance(LEASE);
    let sweeps = futures_util::future::join_all((0..4).map(|_| h.store.sweep())).await;
    assert_eq!(1, sweeps.into_iter().map(|swept| swept.expect("the store answers").dead).sum::<u64>());
    assert_eq!(1, follow_ups(h).await.len());
}

/// A cancelled job did not end well either, whether it waited or ran.
pub async fn a_cancelled_job_writes_its_follow_up(h: &JobHarness) {
    let waiting = h.enqueue(followed(h)).await;
    cancel(h, waiting.id).await.expect("it is live");
    assert_eq!(1, follow_ups(h).await.len());
    let follow_up = h.lease().await.expect("the follow-up is due");
    h.store.complete(follow_up.fence(), Causes::none()).await.expect("it is held");
    let running = h.enqueue(followed(h)).await;
    let lease = h.lease().await.expect("it is due");
    cancel(h, running.id).await.expect("it is live");
    assert_eq!(1, follow_ups(h).await.len(), "it still runs");
    h.store.settle_cancelled(lease.fence()).await.expect("it is held");
    assert_eq!(2, follow_ups(h).await.len());
}

/// Nothing follows a job that is done.
pub async fn a_job_that_ends_well_writes_no_follow_up(h: &JobHarness) {
    h.enqueue(followed(h)).await;
    let lease = h.lease().await.expect("it is due");
    h.store.complete(lease.fence(), Causes::none()).await.expect("it is held");
    assert!(follow_ups(h).await.is_empty());
    assert!(h.lease().await.is_none());
}

/// Each death has a follow-up of its own, also a third one.
pub async fn a_replayed_job_that_dies_again_has_a_second_follow_up(h: &JobHarness) {
    let job = h.enqueue(followed(h)).await;
    for deaths in 1..=3 {
        assert_eq!(job.id, kill(h).await.id);
        assert_eq!(deaths, follow_ups(h).await.len());
        let follow_up = h.lease().await.expect("the follow-up is due");
        assert_eq!("follow_up", follow_up.job.kind);
        h.store.complete(follow_up.fence(), Causes::none()).await.expect("it is held");
        replay(h, job.id).await.expect("it is dead");
    }
}

/// A replayed job starts over, due at once, and keeps the reason of its death for the record.
pub async fn a_dead_job_is_replayed_with_all_its_attempts(h: &JobHarness) {
    h.enqueued("transcode").await;
    let dead = kill(h).await;
    h.clock.advance(LEASE);
    let replayed = replay(h, dead.id).await.expect("it is dead");
    assert_eq!(
        (JobState::Queued, 0, None, None),
        (replayed.state, replayed.attempts, replayed.death, replayed.finished_at)
    );
    assert_eq!((h.now(), Some("broken".to_owned())), (replayed.run_at, replayed.last_error));
    assert_eq!(Some(1), h.lease().await.map(|lease| lease.job.attempts));
}

/// What is queued, runs, is done or was cancelled is not replayed.
pub async fn only_a_dead_job_is_replayed(h: &JobHarness) {
    let queued = h.enqueued("transcode").await.id;
    let refused = async |expected: JobState| {
        let error = replay(h, queued).await.expect_err("it is not dead");
        assert!(matches!(error, JobError::WrongState { state, .. } if state == expected), "{error}");
    };
    refused(JobState::Queued).await;
    let lease = h.lease().await.expect("it is due");
    refused(JobState::Leased).await;
    h.store.complete(lease.fence(), Causes::none()).await.expect("it is held");
    refused(JobState::Done).await;
    assert!(matches!(replay(h, h.job_id()).await, Err(JobError::NotFound)));
}

/// A unique key has one live job, also by way of a replay.
pub async fn a_dead_job_is_not_replayed_beside_a_live_one_of_its_unique_key(h: &JobHarness) {
    let keyed = || NewJob { unique_key: Some("video 1".to_owned()), ..h.new_job("transcode") };
    h.enqueue(keyed()).await;
    let dead = kill(h).await;
    let live = h.enqueue(keyed()).await;
    let error = replay(h, dead.id).await.expect_err("its key is taken");
    assert!(matches!(error, JobError::WrongState { state: JobState::Dead, .. }), "{error}");
    assert_eq!(JobState::Dead, h.job(dead.id).await.state);
    cancel(h, live.id).await.expect("it is live");
    replay(h, dead.id).await.expect("its key is free");
}

/// Nobody works on a queued job, so it need not be asked.
pub async fn a_queued_job_is_cancelled_at_once(h: &JobHarness) {
    let job = h.enqueued("transcode").await;
    let cancelled = cancel(h, job.id).await.expect("it is live");
    assert_eq!((JobState::Cancelled, Some(h.now()), None), (cancelled.state, cancelled.finished_at, cancelled.death));
    assert!(h.lease().await.is_none());
}

/// A running job is asked: its worker hears of it, and it stays leased until the worker says so.
pub async fn a_heartbeat_tells_of_a_cancellation(h: &JobHarness) {
    let lease = h.leased("transcode").await;
    assert!(!h.store.heartbeat(lease.fence(), LEASE, None).await.expect("it is held").cancel);
    let asked = cancel(h, lease.job.id).await.expect("it is live");
    assert_eq!((JobState::Leased, true), (asked.state, asked.cancel_requested));
    assert!(h.store.heartbeat(lease.fence(), LEASE, None).await.expect("it is held").cancel);
    h.store.settle_cancelled(lease.fence()).await.expect("it is held");
    assert_eq!(JobState::Cancelled, h.job(lease.job.id).await.state);
}

/// However the attempt of a cancelled job ends, there is no other: by failure, be it for good, by
/// being given back, or with its worker. Nor is it replayed: what cancelled it may have taken its
/// follow-up away.
pub async fn a_cancelled_attempt_is_never_queued_again(h: &JobHarness) {
    for ending in ["failed", "hopeless", "released", "lost"] {
        let lease = h.leased(ending).await;
        cancel(h, lease.job.id).await.expect("it is live");
        match ending {
            "failed" | "hopeless" => {
                let hopeless = ending == "hopeless";
                let after = if hopeless { AfterFailure::Dead } else { AfterFailure::RetryAt(h.now()) };
                let state = h.store.fail(lease.fence(), "killed".to_owned(), after).await.expect("it is held");
                assert_eq!(JobState::Cancelled, state);
            }
            "released" => h.store.release(lease.fence()).await.expect("it is held"),
            _ => assert_eq!(Swept::default(), h.lose_leases().await),
        }
        assert_eq!(JobState::Cancelled, h.job(lease.job.id).await.state, "{ending}");
        assert!(replay(h, lease.job.id).await.is_err(), "{ending}");
        assert!(h.lease().await.is_none(), "{ending}");
    }
}

/// Nothing moves a job that has ended, but the replay of a dead one.
pub async fn a_job_that_has_ended_is_final(h: &JobHarness) {
    let lease = h.leased("transcode").await;
    h.store.complete(lease.fence(), Causes::none()).await.expect("it is held");
    let done = h.job(lease.job.id).await;
    assert!(matches!(h.store.complete(lease.fence(), Causes::none()).await, Err(JobError::LeaseLost { .. })));
    assert!(matches!(h.store.release(lease.fence()).await, Err(JobError::LeaseLost { .. })));
    let error = cancel(h, done.id).await.expect_err("it has ended");
    assert!(matches!(error, JobError::WrongState { state: JobState::Done, .. }), "{error}");
    assert_eq!(Swept::default(), h.lose_leases().await);
    assert_eq!(done, h.job(done.id).await);
}
