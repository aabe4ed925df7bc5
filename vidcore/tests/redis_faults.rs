//! Redis stopped, restarted, flushed, paused and frozen: those who enqueue do not notice, jobs are found by
//! the sweep, and hints and notices come again once it is back.

#![cfg(all(feature = "sqlite", feature = "redis", feature = "testkit"))]

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::broadcast::error::RecvError;
use vidcore::cache::MAX_SILENCE;
use vidcore::clock::Clock;
use vidcore::entropy::SystemEntropy;
use vidcore::id::JobId;
use vidcore::jobs::dispatcher::redis::KEPT_HINTS;
use vidcore::jobs::dispatcher::{Dispatcher, RedisDispatcher};
use vidcore::jobs::retry::RetryPolicy;
use vidcore::jobs::worker::{
    AnnounceJobs, Handlers, JobContext, JobFailure, JobHandler, Worker, WorkerOptions, WorkerParts,
};
use vidcore::jobs::{JobHint, JobState, JobStore, NewJob, QueueName};
use vidcore::notify::{LocalNotify, Notice, Notify, RedisNotify};
use vidcore::platform::settings::RedisSettings;
use vidcore::redis::RedisServer;
use vidcore::store::Causes;
use vidcore::testkit::store::PATIENCE;
use vidcore::testkit::{TestRedis, TestStore};

const QUEUE: &str = "test";
/// The time of jobs is moved by the tests: without them nothing is ever swept.
const SWEEP: Duration = Duration::from_secs(5);
/// Between two looks at something that happens by itself.
const MOMENT: Duration = Duration::from_millis(5);
/// How long Redis answers nobody.
const PAUSE: Duration = Duration::from_secs(30);
/// More than may wait to be sent.
const MANY: usize = 20_000;

const OPTIONS: WorkerOptions = WorkerOptions {
    concurrency: 4,
    lease: Duration::from_secs(36_000),
    heartbeat: Duration::from_secs(3600),
    sweep: SWEEP,
    grace: Duration::from_secs(1),
    per_owner: None,
    retry: RetryPolicy { base: Duration::from_secs(8), cap: Duration::from_secs(60) },
};

/// Does nothing, and that well.
#[derive(Debug)]
struct Nothing;

#[async_trait]
impl JobHandler for Nothing {
    async fn run(&self, _: JobContext) -> Result<Causes, JobFailure> {
        Ok(Causes::none())
    }
}

/// A process that enqueues and one that works, with nothing between them but Redis: no change check.
struct Site {
    redis: TestRedis,
    test: TestStore,
    producer: Arc<RedisDispatcher>,
    worker: Worker,
}

/// Bounds short enough for a test.
fn settings(redis: &TestRedis) -> RedisSettings {
    RedisSettings { connect_timeout_ms: 300, response_timeout_ms: 300, ..redis.settings() }
}

fn server(redis: &TestRedis) -> RedisServer {
    TestRedis::server(&settings(redis))
}

impl Site {
    async fn new() -> Option<Self> {
        let redis = TestRedis::start()?;
        let server = server(&redis);
        let producer = Arc::new(RedisDispatcher::start(&server));
        let test = TestStore::open_with(vec![Arc::new(AnnounceJobs(producer.clone()))], |_| {}).await;
        let parts = WorkerParts {
            store: Arc::new(test.store.clone()),
            dispatcher: Arc::new(RedisDispatcher::start(&server)),
            notify: Arc::new(LocalNotify::new()),
            clock: Arc::new(test.clock.clone()),
            entropy: test.entropy.clone(),
            name: "tester".to_owned(),
        };
        let handlers = Handlers::new().with(QUEUE, "work", Arc::new(Nothing));
        let worker = Worker::start(parts, handlers, OPTIONS).expect("the worker starts");
        Some(Self { redis, test, producer, worker })
    }

    /// Enqueues a job, which must be acknowledged whatever Redis does.
    async fn enqueue(&self) -> JobId {
        let now = self.test.clock.now();
        let job = NewJob {
            id: JobId::new(now, &*self.test.entropy),
            queue: QueueName::new(QUEUE),
            kind: "work".to_owned(),
            payload: serde_json::Value::Null,
            priority: 0,
            run_at: now,
            max_attempts: 3,
            unique_key: None,
            owner: None,
            video: None,
            on_dead: None,
            group: None,
            now,
        };
        let enqueued = self.test.store.enqueue(job, Causes::none());
        bounded(enqueued).await.expect("it is acknowledged").into_inner().id
    }

    async fn is_done(&self, id: JobId) -> bool {
        let job = self.test.store.job(id).await.expect("the store answers").expect("the job is there");
        job.state == JobState::Done
    }

    /// Waits until the job is done; `meanwhile` is called between two looks.
    async fn until_done(&self, id: JobId, mut meanwhile: impl FnMut()) {
        bounded(async {
            while !self.is_done(id).await {
                meanwhile();
                tokio::time::sleep(MOMENT).await;
            }
        })
        .await;
    }

    /// Jobs are found by the sweep alone, if need be.
    async fn sweeps_find(&self, ids: &[JobId]) {
        for id in ids {
            self.until_done(*id, || self.test.clock.advance(SWEEP)).await;
        }
    }

    /// Time stands still, so that nothing but a hint makes the worker look. One of several is enough:
    /// the first ones after a fault may be lost in a connection that died unnoticed.
    async fn hints_come(&self) {
        bounded(async {
            loop {
                let id = self.enqueue().await;
                for _ in 0..20 {
                    if self.is_done(id).await {
                        return;
                    }
                    tokio::time::sleep(MOMENT).await;
                }
            }
        })
        .await;
    }

    /// Goes through one fault: before it, during it and after it.
    async fn goes_through(mut self, fault: impl FnOnce(&mut TestRedis), heal: impl FnOnce(&mut TestRedis)) {
        self.hints_come().await;
        fault(&mut self.redis);
        let mut ids = Vec::new();
        for _ in 0..20 {
            ids.push(self.enqueue().await);
        }
        self.sweeps_find(&ids).await;
        heal(&mut self.redis);
        self.hints_come().await;
        self.worker.stop().await;
    }
}

async fn bounded<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens in time")
}

async fn until(mut holds: impl FnMut() -> bool) {
    bounded(async {
        while !holds() {
            tokio::time::sleep(MOMENT).await;
        }
    })
    .await;
}

#[tokio::test]
async fn jobs_go_on_while_redis_is_stopped_and_hints_come_back_with_it() {
    let Some(site) = Site::new().await else { return };
    site.goes_through(TestRedis::stop, TestRedis::restart).await;
}

#[tokio::test]
async fn jobs_go_on_over_a_restart() {
    let Some(site) = Site::new().await else { return };
    site.goes_through(TestRedis::restart, |_| {}).await;
}

#[tokio::test]
async fn jobs_go_on_over_a_flush() {
    let Some(site) = Site::new().await else { return };
    site.goes_through(|redis| redis.flush(), |redis| redis.flush()).await;
}

#[tokio::test]
async fn jobs_go_on_while_redis_is_frozen() {
    let Some(site) = Site::new().await else { return };
    site.goes_through(|redis| redis.freeze(), |redis| redis.thaw()).await;
}

#[tokio::test]
async fn jobs_go_on_while_redis_is_paused() {
    let Some(site) = Site::new().await else { return };
    let begun = Instant::now();
    let command = format!("CLIENT PAUSE {} ALL", PAUSE.as_millis());
    let pause = |redis: &mut TestRedis| assert_eq!("+OK", redis.command(&command));
    // Every job was acknowledged and found before that: none waited for the end of the pause. It ends by
    // itself, as Redis holds an `UNPAUSE` back like everything else.
    let resume = |_: &mut TestRedis| assert!(begun.elapsed() < PAUSE, "the pause is over already");
    site.goes_through(pause, resume).await;
}

#[tokio::test]
async fn hints_for_a_frozen_redis_are_dropped_beyond_a_bound() {
    let Some(redis) = TestRedis::start() else { return };
    let settings = settings(&redis);
    let dispatcher = RedisDispatcher::start(&TestRedis::server(&settings));
    redis.freeze();
    for _ in 0..MANY {
        let job = JobId::new(vidcore::clock::SystemClock::new().now(), &SystemEntropy);
        dispatcher.announce(&[JobHint { queue: QueueName::new(QUEUE), job }]);
    }
    redis.thaw();
    let kept = format!("LLEN {}:v1:hints:{QUEUE}", settings.prefix);
    until(|| redis.command(&kept) == format!(":{KEPT_HINTS}")).await;
}

#[tokio::test]
async fn a_worker_that_stops_while_redis_is_frozen_does_stop() {
    let Some(site) = Site::new().await else { return };
    site.hints_come().await;
    site.redis.freeze();
    bounded(site.worker.stop()).await;
    bounded(site.producer.stop()).await;
}

/// The next notice, whatever else comes in between.
async fn heard(news: &mut tokio::sync::broadcast::Receiver<Notice>, notice: &Notice) {
    bounded(async {
        loop {
            match news.recv().await {
                Ok(heard) if heard == *notice => return,
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => panic!("the channel is open"),
            }
        }
    })
    .await;
}

fn notice(key: &str) -> Notice {
    Notice { topic: "topic".to_owned(), key: key.to_owned() }
}

#[tokio::test]
async fn after_a_restart_it_is_told_that_news_was_missed_and_news_comes_again() {
    let Some(mut redis) = TestRedis::start() else { return };
    let server = server(&redis);
    let (here, there) = (RedisNotify::start(&server), RedisNotify::start(&server));
    let mut news = there.subscribe();
    heard(&mut news, &Notice::missed()).await;
    redis.stop();
    until(|| there.silence() > MAX_SILENCE).await;
    here.publish(notice("during"));
    redis.restart();
    heard(&mut news, &Notice::missed()).await;
    until(|| there.silence() <= MAX_SILENCE).await;
    here.publish(notice("after"));
    heard(&mut news, &notice("after")).await;
}

#[tokio::test]
async fn a_process_is_silent_while_redis_is_frozen_and_its_own_subscribers_hear_all_the_same() {
    let Some(redis) = TestRedis::start() else { return };
    let notify = RedisNotify::start(&server(&redis));
    let mut news = notify.subscribe();
    heard(&mut news, &Notice::missed()).await;
    until(|| notify.silence() <= MAX_SILENCE).await;
    redis.freeze();
    until(|| notify.silence() > MAX_SILENCE).await;
    notify.publish(notice("here"));
    heard(&mut news, &notice("here")).await;
    redis.thaw();
    until(|| notify.silence() <= MAX_SILENCE).await;
}

#[tokio::test]
async fn notices_that_found_no_room_are_told_of_as_missed() {
    let Some(redis) = TestRedis::start() else { return };
    let server = server(&redis);
    let (here, there) = (RedisNotify::start(&server), RedisNotify::start(&server));
    let mut news = there.subscribe();
    heard(&mut news, &Notice::missed()).await;
    // Without a pause in which they could be sent.
    (0..MANY).for_each(|number| here.publish(notice(&number.to_string())));
    heard(&mut news, &Notice::missed()).await;
}

#[tokio::test]
async fn what_is_no_notice_is_ignored() {
    let Some(redis) = TestRedis::start() else { return };
    let settings = settings(&redis);
    let server = TestRedis::server(&settings);
    let (here, there) = (RedisNotify::start(&server), RedisNotify::start(&server));
    let (mut news, mut own) = (there.subscribe(), here.subscribe());
    heard(&mut news, &Notice::missed()).await;
    heard(&mut own, &Notice::missed()).await;
    let channel = format!("{}:v1:notices", settings.prefix);
    for junk in ["junk", "{}", "{\"p\":1}", "{\"p\":\"x\",\"n\":[1]}"] {
        assert_eq!(":2", redis.command(&format!("PUBLISH {channel} '{junk}'")), "{junk}");
    }
    here.publish(notice("good"));
    assert_eq!(notice("good"), bounded(news.recv()).await.expect("it is heard"));
}

#[tokio::test]
async fn beside_another_way_the_other_one_says_how_long_it_is_silent() {
    let Some(mut redis) = TestRedis::start() else { return };
    let notify = RedisNotify::beside(&server(&redis), Arc::new(LocalNotify::new()));
    redis.stop();
    until(|| notify.redis_silence() > MAX_SILENCE).await;
    assert_eq!(Duration::ZERO, notify.silence());
}
