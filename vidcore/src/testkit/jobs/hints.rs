//! Hints: who is woken by what.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::select_all;

use crate::jobs::{JobHint, NewJob, QueueName};
use crate::testkit::jobs::{JobHarness, QUEUE};
use crate::testkit::store::PATIENCE;

type Waiter<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

fn queues() -> [QueueName; 2] {
    [QueueName::new(QUEUE), QueueName::new("other")]
}

fn hint(h: &JobHarness) -> JobHint {
    JobHint { queue: QueueName::new(QUEUE), job: h.job_id() }
}

/// One who waits already: polled once, and not woken.
fn waiter<'a>(h: &'a JobHarness, queues: &'a [QueueName]) -> Waiter<'a> {
    let mut waiter = h.dispatcher.wait(queues);
    assert!((&mut waiter).now_or_never().is_none(), "woken without a hint");
    waiter
}

/// Waits for what must come, with a bound: a back end may carry hints at its own pace.
async fn woken(waiter: impl Future<Output = ()>) {
    tokio::time::timeout(PATIENCE, waiter).await.expect("a waiter is woken");
}

/// The commit of a job is its announcement.
pub async fn an_enqueued_job_wakes_a_waiter(h: &JobHarness) {
    let queues = queues();
    let waiter = waiter(h, &queues);
    h.enqueued("transcode").await;
    woken(waiter).await;
}

/// A hint is for one; the others go on waiting.
pub async fn a_hint_wakes_one_waiter(h: &JobHarness) {
    let queues = queues();
    let waiters = vec![waiter(h, &queues), waiter(h, &queues), waiter(h, &queues)];
    h.dispatcher.announce(&[hint(h)]);
    let ((), _, rest) = tokio::time::timeout(PATIENCE, select_all(waiters)).await.expect("a waiter is woken");
    assert!(rest.into_iter().all(|waiter| waiter.now_or_never().is_none()));
}

/// A worker that was busy when the hint came finds it when it waits, once.
pub async fn a_hint_given_before_the_wait_is_kept(h: &JobHarness) {
    let queues = queues();
    h.dispatcher.announce(&[hint(h), hint(h)]);
    woken(h.dispatcher.wait(&queues)).await;
    drop(waiter(h, &queues));
}

/// Who waits for other queues sleeps on.
pub async fn a_hint_wakes_no_waiter_of_another_queue(h: &JobHarness) {
    let (mine, others) = ([QueueName::new("mine")], queues());
    let (mine, others) = (waiter(h, &mine), waiter(h, &others));
    h.dispatcher.announce(&[hint(h)]);
    woken(others).await;
    assert!(mine.now_or_never().is_none());
}

/// A delayed job may shorten a worker's sleep, and a freed one is work again: both are announced.
pub async fn a_delayed_and_a_freed_job_are_hinted_at(h: &JobHarness) {
    let queues = queues();
    let delayed = waiter(h, &queues);
    h.enqueue(NewJob { run_at: h.now().plus(Duration::from_secs(60)), ..h.new_job("delayed") }).await;
    woken(delayed).await;
    h.enqueued("due").await;
    woken(h.dispatcher.wait(&queues)).await;
    assert!(h.lease().await.is_some());
    let freed = waiter(h, &queues);
    h.lose_leases().await;
    woken(freed).await;
}

/// News of unknown kind is for everybody, also for who is just about to wait.
pub async fn waking_all_wakes_every_waiter(h: &JobHarness) {
    let queues = queues();
    let waiters = [waiter(h, &queues[..1]), waiter(h, &queues[1..]), waiter(h, &queues)];
    h.dispatcher.wake_all();
    for waiter in waiters {
        woken(waiter).await;
    }
    woken(h.dispatcher.wait(&queues)).await;
}
