//! Hints: who is woken by what.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::select_all;

use crate::jobs::dispatcher::Dispatcher;
use crate::jobs::{NewJob, QueueName};
use crate::testkit::jobs::{JobHarness, QUEUE};
use crate::testkit::store::PATIENCE;

type Waiter<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

pub(super) fn queues() -> [QueueName; 2] {
    [QueueName::new(QUEUE), QueueName::new("other")]
}

/// One who waits already: polled once, and not woken. Where a hint is for all, an earlier one may wake
/// once more.
pub(super) fn waiter<'a>(h: &JobHarness, dispatcher: &'a dyn Dispatcher, queues: &'a [QueueName]) -> Waiter<'a> {
    loop {
        let mut waiter = dispatcher.wait(queues);
        if (&mut waiter).now_or_never().is_none() {
            return waiter;
        }
        assert!(h.hints_wake_all(), "woken without a hint");
    }
}

/// Waits for what must come, with a bound: a back end may carry hints at its own pace.
pub(super) async fn woken<T>(waiter: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, waiter).await.expect("a waiter is woken")
}

/// The commit of a job is its announcement.
pub async fn an_enqueued_job_wakes_a_waiter(h: &JobHarness) {
    let queues = queues();
    let waiter = waiter(h, &*h.dispatcher, &queues);
    h.enqueued("transcode").await;
    woken(waiter).await;
}

/// A hint is for one; the others go on waiting, but for back ends that wake all.
pub async fn a_hint_wakes_one_waiter(h: &JobHarness) {
    let queues = queues();
    let waiters = vec![
        waiter(h, &*h.dispatcher, &queues),
        waiter(h, &*h.dispatcher, &queues),
        waiter(h, &*h.dispatcher, &queues),
    ];
    h.hint().await;
    let ((), _, rest) = woken(select_all(waiters)).await;
    for waiter in rest {
        if h.hints_wake_all() {
            woken(waiter).await;
        } else {
            assert!(waiter.now_or_never().is_none());
        }
    }
}

/// A worker that was busy when the hint came finds it when it waits, once.
pub async fn a_hint_given_before_the_wait_is_kept(h: &JobHarness) {
    let queues = queues();
    h.hint().await;
    h.hint().await;
    woken(h.dispatcher.wait(&queues)).await;
    drop(waiter(h, &*h.dispatcher, &queues));
}

/// Who waits for other queues sleeps on, but for back ends that wake all.
pub async fn a_hint_wakes_no_waiter_of_another_queue(h: &JobHarness) {
    let (mine, others) = ([QueueName::new("mine")], queues());
    let (mine, others) = (waiter(h, &*h.dispatcher, &mine), waiter(h, &*h.dispatcher, &others));
    h.hint().await;
    woken(others).await;
    if h.hints_wake_all() {
        woken(mine).await;
    } else {
        assert!(mine.now_or_never().is_none());
    }
}

/// A delayed job may shorten a worker's sleep, and a freed one is work again: both are announced.
pub async fn a_delayed_and_a_freed_job_are_hinted_at(h: &JobHarness) {
    let queues = queues();
    let delayed = waiter(h, &*h.dispatcher, &queues);
    h.enqueue(NewJob { run_at: h.now().plus(Duration::from_secs(60)), ..h.new_job("delayed") }).await;
    woken(delayed).await;
    h.enqueued("due").await;
    woken(h.dispatcher.wait(&queues)).await;
    assert!(h.lease().await.is_some());
    let freed = waiter(h, &*h.dispatcher, &queues);
    h.lose_leases().await;
    woken(freed).await;
}

/// News of unknown kind is for everybody, also for who is just about to wait.
pub async fn waking_all_wakes_every_waiter(h: &JobHarness) {
    let queues = queues();
    let waiters = [
        waiter(h, &*h.dispatcher, &queues[..1]),
        waiter(h, &*h.dispatcher, &queues[1..]),
        waiter(h, &*h.dispatcher, &queues),
    ];
    h.dispatcher.wake_all();
    for waiter in waiters {
        woken(waiter).await;
    }
    woken(h.dispatcher.wait(&queues)).await;
}
