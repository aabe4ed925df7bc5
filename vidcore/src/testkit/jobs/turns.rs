//! Whose turn it is: owners, their limits, paused queues.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::id::UserId;
use crate::jobs::{AfterFailure, Claim, JobState, Lease, NewJob, QueueName};
use crate::store::Causes;
use crate::testkit::jobs::{JobHarness, LEASE, QUEUE};

async fn enqueue_for(h: &JobHarness, owner: Option<UserId>, count: usize) {
    for _ in 0..count {
        h.enqueue(NewJob { owner, ..h.new_job("transcode") }).await;
    }
}

async fn owners_in_order(h: &JobHarness, limit: u16) -> Vec<Option<UserId>> {
    h.lease_up_to(limit).await.into_iter().map(|lease| lease.job.owner).collect()
}

/// Claims with a limit of `most` running jobs per owner.
async fn lease_within(h: &JobHarness, most: u32, limit: u16) -> Vec<Lease> {
    let claim = Claim { per_owner: NonZeroU32::new(most), ..h.claim(&[QUEUE], limit) };
    h.store.lease(claim).await.expect("the store answers")
}

async fn pause(h: &JobHarness, queue: &str, paused: bool) {
    h.store.set_paused(&QueueName::new(queue), paused, Causes::none()).await.expect("the store answers");
}

/// One who has a single job does not wait for another's hundred.
pub async fn owners_take_turns(h: &JobHarness) {
    let (busy, modest, late) = (Some(h.user_id()), Some(h.user_id()), Some(h.user_id()));
    enqueue_for(h, busy, 5).await;
    enqueue_for(h, modest, 1).await;
    assert_eq!([busy, modest, busy], *owners_in_order(h, 3).await);
    enqueue_for(h, late, 2).await;
    // Who has the fewest running goes first, then who was served longest ago.
    assert_eq!([late, late, busy, busy], *owners_in_order(h, 4).await);
}

/// Turns go on where the last claim ended, also when nobody's jobs run any more.
pub async fn turns_are_remembered_between_claims(h: &JobHarness) {
    let (first, second) = (Some(h.user_id()), Some(h.user_id()));
    enqueue_for(h, first, 3).await;
    enqueue_for(h, second, 3).await;
    let mut served = Vec::new();
    for _ in 0..6 {
        let lease = h.lease().await.expect("a job is due");
        served.push(lease.job.owner);
        h.store.complete(lease.fence(), Causes::none()).await.expect("it is held");
    }
    assert_eq!([first, second, first, second, first, second], *served);
}

/// Newcomers queue up behind those who wait already: however many come, nobody waits for ever.
pub async fn newcomers_do_not_starve_who_waits(h: &JobHarness) {
    let waiting = Some(h.user_id());
    enqueue_for(h, waiting, 2).await;
    let mut turns_of_waiting = Vec::new();
    for round in 0..6 {
        enqueue_for(h, Some(h.user_id()), 2).await;
        let lease = h.lease().await.expect("a job is due");
        if lease.job.owner == waiting {
            turns_of_waiting.push(round);
        }
        h.store.complete(lease.fence(), Causes::none()).await.expect("it is held");
    }
    assert_eq!(2, turns_of_waiting.len(), "{turns_of_waiting:?}");
}

/// The limit counts what runs, over all claims; a job that ends makes room for one.
pub async fn an_owner_at_the_limit_is_passed_over(h: &JobHarness) {
    let (busy, other) = (Some(h.user_id()), Some(h.user_id()));
    enqueue_for(h, busy, 4).await;
    enqueue_for(h, other, 1).await;
    let leases = lease_within(h, 2, 10).await;
    let mut running: HashMap<_, u32> = HashMap::new();
    leases.iter().for_each(|lease| *running.entry(lease.job.owner).or_default() += 1);
    assert_eq!((3, 2, 1), (leases.len(), running[&busy], running[&other]));
    assert!(lease_within(h, 2, 10).await.is_empty());
    let due = h.store.next_due(&[QueueName::new(QUEUE)], NonZeroU32::new(2)).await.expect("the store answers");
    assert_eq!(None, due, "nothing may be claimed until something ends");
    let ended = leases.iter().find(|lease| lease.job.owner == busy).expect("two of them are");
    h.store.complete(ended.fence(), Causes::none()).await.expect("it is held");
    assert_eq!(1, lease_within(h, 2, 10).await.len());
}

/// However a job leaves a worker, its owner's room is free again.
pub async fn every_ending_makes_room_for_its_owner(h: &JobHarness) {
    let owner = Some(h.user_id());
    enqueue_for(h, owner, 6).await;
    let claim = async || lease_within(h, 1, 10).await.pop();
    let store = &h.store;
    let lease = claim().await.expect("there is room");
    store.release(lease.fence()).await.expect("it is held");
    let lease = claim().await.expect("a released job runs no more");
    store.fail(lease.fence(), "x".to_owned(), AfterFailure::RetryAt(h.now())).await.expect("it is held");
    let lease = claim().await.expect("a failed job runs no more");
    store.fail(lease.fence(), "x".to_owned(), AfterFailure::Dead).await.expect("it is held");
    let lease = claim().await.expect("a dead job runs no more");
    store.cancel(lease.job.id, None, Causes::none()).await.expect("it is live");
    assert!(claim().await.is_none(), "a job that was only asked to stop still runs");
    store.settle_cancelled(lease.fence()).await.expect("it is held");
    assert!(claim().await.is_some(), "a cancelled job runs no more");
    h.lose_leases().await;
    assert!(claim().await.is_some(), "a lost job runs no more");
}

/// A paused queue gives nothing, other queues go on, and what runs already ends as it would.
pub async fn a_paused_queue_gives_no_job(h: &JobHarness) {
    h.enqueued("runs already").await;
    let running = h.lease().await.expect("it is due");
    h.enqueued("waits").await;
    h.enqueue(NewJob { queue: QueueName::new("other"), ..h.new_job("other") }).await;
    pause(h, QUEUE, true).await;
    assert!(h.lease().await.is_none());
    let queues = [QueueName::new(QUEUE)];
    assert_eq!(None, h.store.next_due(&queues, None).await.expect("the store answers"));
    let others = h.store.lease(h.claim(&[QUEUE, "other"], 10)).await.expect("the store answers");
    assert_eq!(["other"], *others.iter().map(|lease| lease.job.kind.as_str()).collect::<Vec<_>>());
    h.store.complete(running.fence(), Causes::none()).await.expect("it is held");
    pause(h, QUEUE, false).await;
    assert!(h.lease().await.is_some());
}

/// Pausing twice is pausing once; letting go on what was never paused is nothing.
pub async fn pausing_is_idempotent_and_shown(h: &JobHarness) {
    let stats = async || h.store.queues().await.expect("the store answers");
    pause(h, "quiet", false).await;
    assert!(stats().await.is_empty());
    pause(h, "quiet", true).await;
    let since = h.now();
    h.clock.advance(Duration::from_secs(5));
    pause(h, "quiet", true).await;
    let [quiet] = stats().await.try_into().expect("one queue is paused");
    assert_eq!((QueueName::new("quiet"), Some(since)), (quiet.queue, quiet.paused_since));
    pause(h, "quiet", false).await;
    assert!(stats().await.is_empty());
}

/// Ready, delayed, running and dead jobs are told apart, with the age of the oldest that could run.
pub async fn a_queue_is_measured_by_state(h: &JobHarness) {
    let later = h.now().plus(Duration::from_secs(60));
    h.enqueued("dies").await;
    let lease = h.lease().await.expect("it is due");
    h.store.fail(lease.fence(), "x".to_owned(), AfterFailure::Dead).await.expect("it is held");
    h.enqueued("runs").await;
    h.lease().await.expect("it is due");
    let oldest = h.now();
    h.enqueued("waits").await;
    h.clock.advance(Duration::from_secs(1));
    h.enqueued("waits").await;
    h.enqueue(NewJob { run_at: later, ..h.new_job("delayed") }).await;
    let [stats] = h.store.queues().await.expect("the store answers").try_into().expect("one queue");
    assert_eq!((2, 1, 1, 1), (stats.ready, stats.delayed, stats.running, stats.dead));
    assert_eq!(Some(oldest), stats.oldest_due_at);
}

/// A delayed job counts as ready once a claim has seen that its time has come.
pub async fn a_delayed_job_joins_the_others_in_rank_order(h: &JobHarness) {
    let soon = h.now().plus(Duration::from_millis(10));
    h.enqueue(NewJob { run_at: soon, priority: 1, ..h.new_job("delayed") }).await;
    h.clock.advance(Duration::from_millis(20));
    h.enqueued("ordinary").await;
    let kinds: Vec<_> = h.lease_up_to(2).await.into_iter().map(|lease| lease.job.kind).collect();
    assert_eq!(["delayed", "ordinary"], *kinds);
    h.clock.advance(LEASE);
    assert_eq!(2, h.store.sweep().await.expect("the store answers").rescued);
    let [stats] = h.store.queues().await.expect("the store answers").try_into().expect("one queue");
    assert_eq!((2, 0, 0), (stats.ready, stats.delayed, stats.running));
}

/// More jobs than one claim takes in become due at the same moment: none is forgotten.
pub async fn a_flood_of_delayed_jobs_is_claimed_to_the_last(h: &JobHarness) {
    let soon = h.now().plus(Duration::from_secs(1));
    let causes = (0..2100).fold(Causes::none(), |causes, _| causes.job(NewJob { run_at: soon, ..h.new_job("x") }));
    h.store.enqueue(NewJob { run_at: soon, ..h.new_job("x") }, causes).await.expect("they are enqueued");
    h.clock.advance(Duration::from_secs(1));
    let mut claimed = 0;
    loop {
        let leases = h.lease_up_to(500).await;
        if leases.is_empty() {
            break;
        }
        claimed += leases.len();
        assert!(leases.iter().all(|lease| lease.job.state == JobState::Leased));
    }
    assert_eq!(2101, claimed);
}
