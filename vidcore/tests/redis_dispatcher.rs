//! What only the Redis dispatcher has: lists with a bound, connections, a shorter way within a process.

#![cfg(all(feature = "sqlite", feature = "redis", feature = "testkit"))]

use std::future::Future;
use std::sync::Arc;

use futures_util::FutureExt as _;
use vidcore::clock::{Clock, ManualClock};
use vidcore::entropy::SystemEntropy;
use vidcore::id::JobId;
use vidcore::jobs::dispatcher::redis::{KEPT_HINTS, KEPT_HINTS_FOR};
use vidcore::jobs::dispatcher::{Dispatcher, RedisDispatcher};
use vidcore::jobs::worker::AnnounceJobs;
use vidcore::jobs::{JobHint, JobStore, NewJob, QueueName};
use vidcore::platform::settings::RedisSettings;
use vidcore::store::Causes;
use vidcore::testkit::store::PATIENCE;
use vidcore::testkit::{TestRedis, TestStore};

const QUEUE: &str = "test";

/// One Redis and the processes of one platform.
struct Site {
    redis: TestRedis,
    settings: RedisSettings,
}

impl Site {
    fn new() -> Option<Self> {
        let redis = TestRedis::start()?;
        let settings = redis.settings();
        Some(Self { redis, settings })
    }

    fn process(&self) -> RedisDispatcher {
        RedisDispatcher::start(&TestRedis::server(&self.settings))
    }

    /// The list of hints as the server has it.
    fn list(&self) -> String {
        format!("{}:v1:hints:{QUEUE}", self.settings.prefix)
    }

    fn number(&self, command: &str) -> i64 {
        self.redis.command(command).trim_start_matches(':').parse().expect("a number")
    }

    fn kept(&self) -> i64 {
        self.number(&format!("LLEN {}", self.list()))
    }

    /// Waits until as many hints are kept.
    async fn until_kept(&self, hints: i64) {
        until(|| self.kept() == hints).await;
    }
}

fn queues() -> [QueueName; 1] {
    [QueueName::new(QUEUE)]
}

fn hint() -> JobHint {
    JobHint { queue: QueueName::new(QUEUE), job: JobId::new(ManualClock::default().now(), &SystemEntropy) }
}

async fn bounded<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens in time")
}

/// Waits for what another process does by itself.
async fn until(mut holds: impl FnMut() -> bool) {
    bounded(async {
        while !holds() {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_list_keeps_so_many_hints_and_so_long() {
    let Some(site) = Site::new() else { return };
    let process = site.process();
    let bound = i64::try_from(KEPT_HINTS).expect("a small number");
    let hints: Vec<_> = (0..KEPT_HINTS).map(|_| hint()).collect();
    process.announce(&hints);
    site.until_kept(bound).await;
    process.announce(&hints[..100]);
    // A hint of another queue that arrives says that those before it have.
    process.announce(&[JobHint { queue: QueueName::new("after"), ..hint() }]);
    let after = format!("EXISTS {}:v1:hints:after", site.settings.prefix);
    until(|| site.number(&after) == 1).await;
    assert_eq!(bound, site.kept());
    let left_ms = site.number(&format!("PTTL {}", site.list()));
    assert!(0 < left_ms && left_ms <= KEPT_HINTS_FOR.as_millis() as i64, "{left_ms}");
}

#[tokio::test]
async fn jobs_whose_hints_found_no_room_are_claimed_all_the_same() {
    let Some(site) = Site::new() else { return };
    let process = Arc::new(site.process());
    let test = TestStore::open_with(vec![Arc::new(AnnounceJobs(process.clone()))], |_| {}).await;
    let now = test.clock.now();
    let job = NewJob {
        id: JobId::new(now, &*test.entropy),
        queue: QueueName::new(QUEUE),
        kind: "work".to_owned(),
        payload: serde_json::Value::Null,
        priority: 0,
        run_at: now,
        max_attempts: 1,
        unique_key: None,
        owner: None,
        video: None,
        on_dead: None,
        group: None,
        now,
    };
    let id = test.store.enqueue(job, Causes::none()).await.expect("it is enqueued").into_inner().id;
    process.announce(&(0..KEPT_HINTS).map(|_| hint()).collect::<Vec<_>>());
    site.until_kept(i64::try_from(KEPT_HINTS).expect("a small number")).await;
    let oldest = format!("LPOS {} {id}", site.list());
    until(|| site.redis.command(&oldest) == "$-1").await;
    assert_eq!(Some(now), test.store.next_due(&queues(), None).await.expect("the store answers"));
}

#[tokio::test]
async fn a_hint_for_a_waiter_of_the_same_process_does_not_go_to_redis() {
    let Some(site) = Site::new() else { return };
    let (here, there, queues) = (site.process(), site.process(), queues());
    let mut elsewhere = there.wait(&queues);
    assert!((&mut elsewhere).now_or_never().is_none());
    let mut waiting = here.wait(&queues);
    assert!((&mut waiting).now_or_never().is_none());
    here.announce(&[hint()]);
    assert!(waiting.now_or_never().is_some(), "woken before anything was sent");
    here.announce(&[hint()]);
    bounded(elsewhere).await;
    assert!(there.wait(&queues).now_or_never().is_none(), "two hints woke two waiters");
    site.until_kept(0).await;
}

#[tokio::test]
async fn a_local_hint_of_a_dropped_waiter_goes_to_the_others() {
    let Some(site) = Site::new() else { return };
    let (here, there, queues) = (site.process(), site.process(), queues());
    let mut waiting = here.wait(&queues);
    assert!((&mut waiting).now_or_never().is_none());
    here.announce(&[hint()]);
    drop(waiting);
    bounded(there.wait(&queues)).await;
}

#[tokio::test]
async fn hints_announced_before_the_stop_are_sent() {
    let Some(site) = Site::new() else { return };
    let process = site.process();
    process.announce(&[hint(), hint()]);
    process.stop().await;
    assert_eq!(2, site.kept());
    process.announce(&[hint()]);
    assert!(process.wait(&queues()).now_or_never().is_none());
}

#[tokio::test]
async fn a_pop_is_called_off_once_nobody_waits_for_it() {
    let Some(site) = Site::new() else { return };
    let (process, queues) = (site.process(), queues());
    let mut waiting = process.wait(&queues);
    assert!((&mut waiting).now_or_never().is_none());
    until(|| site.redis.text("INFO clients").contains("blocked_clients:1")).await;
    drop(waiting);
    until(|| site.redis.text("INFO clients").contains("blocked_clients:0")).await;
    // A pop also ends by itself in a while.
    assert!(site.redis.text("INFO commandstats").contains("client|unblock"));
}

#[tokio::test]
async fn a_dropped_dispatcher_leaves_no_connection() {
    let Some(site) = Site::new() else { return };
    let (process, queues) = (site.process(), queues());
    let mut waiting = process.wait(&queues);
    assert!((&mut waiting).now_or_never().is_none());
    process.announce(&[JobHint { queue: QueueName::new("other"), ..hint() }]);
    until(|| site.redis.connections() == 3).await;
    drop(waiting);
    drop(process);
    until(|| site.redis.connections() == 0).await;
}

#[tokio::test]
async fn a_process_that_neither_waits_nor_announces_does_not_connect() {
    let Some(site) = Site::new() else { return };
    let (idle, busy) = (site.process(), site.process());
    busy.announce(&[hint()]);
    site.until_kept(1).await;
    assert_eq!(1, site.redis.connections(), "the one that announced");
    drop(idle);
}

#[tokio::test]
async fn what_redis_refuses_is_dropped_and_the_rest_goes_on() {
    let Some(site) = Site::new() else { return };
    let process = site.process();
    assert_eq!("+OK", site.redis.command(&format!("SET {} junk", site.list())));
    process.announce(&[hint()]);
    process.announce(&[JobHint { queue: QueueName::new("other"), ..hint() }]);
    bounded(process.wait(&[QueueName::new("other")])).await;
}
