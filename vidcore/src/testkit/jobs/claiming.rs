//! Who gets which job, and when.

use std::collections::HashSet;
use std::time::Duration;

use crate::jobs::{JobRetention, JobState, NewJob, QueueName};
use crate::store::Causes;
use crate::testkit::jobs::JobHarness;

const MINUTE: Duration = Duration::from_secs(60);
const MILLISECOND: Duration = Duration::from_millis(1);

async fn kinds_in_order(h: &JobHarness) -> Vec<String> {
    h.lease_up_to(10).await.into_iter().map(|lease| lease.job.kind).collect()
}

/// A job is read back as it was enqueued.
pub async fn an_enqueued_job_is_queued_and_read_back(h: &JobHarness) {
    let new = NewJob { owner: Some(h.user_id()), video: Some(h.video_id()), priority: -3, ..h.new_job("transcode") };
    let job = h.enqueue(new.clone()).await;
    assert_eq!(job, h.job(new.id).await);
    assert_eq!((JobState::Queued, 0, 0, None), (job.state, job.attempts, job.progress, job.finished_at));
    assert_eq!((new.queue, new.kind, new.payload), (job.queue, job.kind, job.payload));
    assert_eq!((new.owner, new.video, new.priority), (job.owner, job.video, job.priority));
    assert_eq!((new.run_at, new.now, new.max_attempts), (job.run_at, job.created_at, job.max_attempts));
}

/// Without priorities, age decides; of one age, the first enqueued.
pub async fn the_older_of_two_jobs_goes_first(h: &JobHarness) {
    let (younger, older) = (h.now(), h.now().minus(MILLISECOND));
    h.enqueue(NewJob { run_at: younger, ..h.new_job("second") }).await;
    h.enqueue(NewJob { run_at: younger, ..h.new_job("third") }).await;
    h.enqueue(NewJob { run_at: older, ..h.new_job("first") }).await;
    assert_eq!(["first", "second", "third"], *kinds_in_order(h).await);
}

/// A job of one step more goes before those less than a minute older, and after those older still.
pub async fn a_step_of_priority_is_worth_a_minute_of_age(h: &JobHarness) {
    let now = h.now();
    h.enqueue(NewJob { priority: 1, ..h.new_job("raised") }).await;
    h.enqueue(NewJob { run_at: now.minus(MINUTE - MILLISECOND), ..h.new_job("just younger") }).await;
    h.enqueue(NewJob { run_at: now.minus(MINUTE + MILLISECOND), ..h.new_job("just older") }).await;
    assert_eq!(["just older", "raised", "just younger"], *kinds_in_order(h).await);
}

/// The lowest priority puts a job behind others, not out of reach.
pub async fn a_job_of_the_lowest_priority_is_claimed_all_the_same(h: &JobHarness) {
    h.enqueue(NewJob { priority: -10, ..h.new_job("lowest") }).await;
    assert_eq!(["lowest"], *kinds_in_order(h).await);
}

/// A delayed job is due at its time, not a millisecond before, whatever its priority.
pub async fn a_delayed_job_is_not_claimed_before_its_time(h: &JobHarness) {
    let run_at = h.now().plus(MINUTE);
    h.enqueue(NewJob { run_at, priority: 10, ..h.new_job("delayed") }).await;
    h.clock.advance(MINUTE - MILLISECOND);
    assert!(h.lease().await.is_none());
    h.clock.advance(MILLISECOND);
    assert!(h.lease().await.is_some());
}

/// Jobs of other queues are left alone.
pub async fn a_claim_takes_jobs_of_its_queues_alone(h: &JobHarness) {
    let other = h.enqueue(NewJob { queue: QueueName::new("other"), ..h.new_job("other") }).await;
    assert!(h.lease().await.is_none());
    assert_eq!(JobState::Queued, h.job(other.id).await.state);
}

/// The limit counts over all queues, and the best of all come first.
pub async fn the_best_jobs_of_several_queues_are_claimed_in_order(h: &JobHarness) {
    let queues = ["a", "b", "c"].map(QueueName::new);
    for (age_ms, queue) in [(5, 0), (4, 1), (3, 0), (2, 2), (1, 1)] {
        let run_at = h.now().minus(Duration::from_millis(age_ms));
        h.enqueue(NewJob { queue: queues[queue].clone(), run_at, ..h.new_job(&age_ms.to_string()) }).await;
    }
    let leases = h.store.lease(h.claim(&["a", "b", "c"], 4)).await.expect("the store answers");
    let kinds: Vec<_> = leases.iter().map(|lease| lease.job.kind.as_str()).collect();
    assert_eq!(["5", "4", "3", "2"], *kinds);
}

/// However many claim at once, a job is held once.
pub async fn two_workers_never_hold_the_same_job(h: &JobHarness) {
    for _ in 0..20 {
        h.enqueued("transcode").await;
    }
    let claims = futures_util::future::join_all((0..16).map(|_| h.lease_up_to(3))).await;
    let leases: Vec<_> = claims.into_iter().flatten().collect();
    let jobs: HashSet<_> = leases.iter().map(|lease| lease.job.id).collect();
    let tokens: HashSet<_> = leases.iter().map(|lease| lease.token).collect();
    assert_eq!((20, 20, 20), (leases.len(), jobs.len(), tokens.len()));
}

/// All who enqueue under one unique key are given the same job.
pub async fn of_many_enqueues_with_one_unique_key_one_makes_a_job(h: &JobHarness) {
    let enqueues =
        (0..64).map(|_| h.enqueue(NewJob { unique_key: Some("video 1".to_owned()), ..h.new_job("transcode") }));
    let jobs: HashSet<_> = futures_util::future::join_all(enqueues).await.iter().map(|job| job.id).collect();
    assert_eq!(1, jobs.len());
    assert_eq!(1, h.lease_up_to(64).await.len());
}

/// A unique key binds live jobs, queued or leased, and no others.
pub async fn a_unique_key_is_free_once_its_job_has_ended(h: &JobHarness) {
    let keyed = || NewJob { unique_key: Some("video 1".to_owned()), ..h.new_job("transcode") };
    let first = h.enqueue(keyed()).await;
    let lease = h.lease().await.expect("it is due");
    assert_eq!(first.id, h.enqueue(keyed()).await.id);
    h.store.complete(lease.fence(), Causes::none()).await.expect("it completes");
    let second = h.enqueue(keyed()).await;
    assert_ne!(first.id, second.id);
    assert_eq!(JobState::Queued, second.state);
}

/// A command goes through whether or not the job it causes is there already.
pub async fn a_caused_job_whose_unique_key_is_taken_is_left_out(h: &JobHarness) {
    let keyed = || NewJob { unique_key: Some("video 1".to_owned()), ..h.new_job("transcode") };
    let live = h.enqueue(keyed()).await;
    let twin = keyed();
    let twin_id = twin.id;
    let cause = h.new_job("cause");
    let cause_id = cause.id;
    h.store.enqueue(cause, Causes::none().job(twin)).await.expect("the command goes through");
    assert_eq!(None, h.store.job(twin_id).await.expect("the store answers"));
    let claimed: Vec<_> = h.lease_up_to(10).await.iter().map(|lease| lease.job.id).collect();
    assert_eq!([live.id, cause_id], *claimed);
}

/// Tokens are never repeated and never go down, over all jobs.
pub async fn tokens_grow_with_every_attempt(h: &JobHarness) {
    let mut last = 0;
    for _ in 0..3 {
        h.enqueued("transcode").await;
        let lease = h.lease().await.expect("it is due");
        assert!(lease.token > last, "{} after {last}", lease.token);
        last = lease.token;
        h.store.release(lease.fence()).await.expect("it is given back");
    }
    for lease in h.lease_up_to(3).await {
        assert!(lease.token > last, "{} after {last}", lease.token);
        last = lease.token;
    }
}

/// A token outlives the attempt it was minted for: what was forgotten cannot be mistaken for what is new.
pub async fn tokens_never_come_back_even_when_their_jobs_are_forgotten(h: &JobHarness) {
    let lease = h.leased("transcode").await;
    h.store.complete(lease.fence(), Causes::none()).await.expect("it is held");
    h.clock.advance(MILLISECOND);
    let retention = JobRetention { done_before: h.now(), dead_before: h.now() };
    assert_eq!(1, h.store.prune_jobs(retention, 10).await.expect("the store answers"));
    let next = h.leased("transcode").await;
    assert!(next.token > lease.token, "{} after {}", next.token, lease.token);
}

/// Whatever enqueues it: of all commands that cause a job of one unique key, one writes it.
pub async fn of_many_causes_with_one_unique_key_one_makes_a_job(h: &JobHarness) {
    let keyed = || NewJob { unique_key: Some("video 1".to_owned()), ..h.new_job("caused") };
    let commands = (0..64).map(|_| h.store.enqueue(h.new_job("cause"), Causes::none().job(keyed())));
    let written = futures_util::future::join_all(commands).await;
    assert!(written.into_iter().all(|command| command.is_ok()), "the commands themselves go through");
    let kinds: Vec<_> = h.lease_up_to(200).await.into_iter().map(|lease| lease.job.kind).collect();
    assert_eq!((64, 1), (kinds.iter().filter(|kind| *kind == "cause").count(), kinds.len() - 64));
}
