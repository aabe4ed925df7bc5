//! Platforms that share a folder and a Redis, as two processes of one host do.

#![cfg(all(feature = "sqlite", feature = "redis", feature = "testkit"))]

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;
use vidcore::Platform;
use vidcore::entropy::SystemEntropy;
use vidcore::id::{JobId, UserId};
use vidcore::jobs::worker::{JobContext, JobFailure, JobHandler};
use vidcore::jobs::{JobState, NewJob, QueueName};
use vidcore::platform::settings::{DispatcherChoice, LimitsChoice, RedisSettings, Secret, TranscoderChoice};
use vidcore::platform::{OpenError, Settings};
use vidcore::rate_limit::RouteClass;
use vidcore::store::Causes;
use vidcore::testkit::TestRedis;
use vidcore::testkit::store::{PATIENCE, temporary_folder};

const QUEUE: &str = "own";

/// So long that no test meets it.
const FAR_MS: u64 = 36_000_000;

/// Says which jobs it ran.
#[derive(Debug)]
struct Reporter(mpsc::UnboundedSender<JobId>);

#[async_trait]
impl JobHandler for Reporter {
    async fn run(&self, context: JobContext) -> Result<Causes, JobFailure> {
        self.0.send(context.lease.job.id).expect("the test listens");
        Ok(Causes::none())
    }
}

/// Says which jobs it runs, and runs them until they are cancelled.
#[derive(Debug)]
struct Patient(mpsc::UnboundedSender<JobId>);

#[async_trait]
impl JobHandler for Patient {
    async fn run(&self, context: JobContext) -> Result<Causes, JobFailure> {
        self.0.send(context.lease.job.id).expect("the test listens");
        context.cancel.cancelled().await;
        Err(JobFailure::Cancelled)
    }
}

async fn bounded<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens in time")
}

/// Settings with which nothing but Redis brings news in time: neither change check nor sweep.
fn settings(folder: &std::path::Path, redis: RedisSettings) -> Settings {
    let mut settings = Settings { data_dir: folder.to_owned(), redis, ..Settings::default() };
    settings.sqlite.change_check_ms = FAR_MS;
    settings.worker.sweep_ms = FAR_MS;
    settings.media.transcoder = TranscoderChoice::Simulated;
    settings
}

async fn enqueue(platform: &Platform) -> JobId {
    let now = platform.now();
    let job = NewJob {
        id: JobId::new(now, &SystemEntropy),
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
    platform.store().enqueue(job, Causes::none()).await.expect("it is enqueued").into_inner().id
}

#[tokio::test]
async fn a_job_of_one_process_is_run_by_another_as_soon_as_redis_tells() {
    let Some(redis) = TestRedis::start() else { return };
    let folder = temporary_folder().expect("a folder");
    let settings = settings(folder.path(), redis.settings());
    let mut serving = settings.clone();
    serving.worker.enabled = false;
    let server = Platform::open(serving).await.expect("it opens");
    let (ran, mut reports) = mpsc::unbounded_channel();
    let worker = Platform::builder(settings).handler(QUEUE, "work", Arc::new(Reporter(ran))).open().await;
    let worker = worker.expect("a second process opens the folder");
    for _ in 0..3 {
        let id = enqueue(&server).await;
        assert_eq!(Some(id), bounded(reports.recv()).await);
    }
    bounded(worker.shutdown()).await;
    bounded(server.shutdown()).await;
    // A platform that was shut down holds no connection.
    bounded(async {
        while redis.connections() > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_job_cancelled_in_one_process_stops_in_another_as_soon_as_redis_tells() {
    let Some(redis) = TestRedis::start() else { return };
    let folder = temporary_folder().expect("a folder");
    let mut settings = settings(folder.path(), redis.settings());
    settings.worker.heartbeat_ms = FAR_MS;
    settings.worker.lease_ms = 3 * FAR_MS;
    let mut serving = settings.clone();
    serving.worker.enabled = false;
    let server = Platform::open(serving).await.expect("it opens");
    let (begun, mut runs) = mpsc::unbounded_channel();
    let worker = Platform::builder(settings).handler(QUEUE, "work", Arc::new(Patient(begun))).open().await;
    let worker = worker.expect("a second process opens the folder");
    let id = enqueue(&server).await;
    assert_eq!(Some(id), bounded(runs.recv()).await);
    server.store().cancel(id, None, Causes::none()).await.expect("it is asked to stop");
    bounded(async {
        while server.store().job(id).await.expect("the store answers").expect("it is there").state
            != JobState::Cancelled
        {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    bounded(worker.shutdown()).await;
    bounded(server.shutdown()).await;
}

#[tokio::test]
async fn hints_stay_in_the_process_where_the_settings_say_so() {
    let Some(redis) = TestRedis::start() else { return };
    let folder = temporary_folder().expect("a folder");
    let mut settings = settings(folder.path(), redis.settings());
    settings.worker.dispatcher = DispatcherChoice::Local;
    settings.worker.enabled = false;
    let list = format!("EXISTS {}:v1:hints:{QUEUE}", settings.redis.prefix);
    let platform = Platform::open(settings).await.expect("it opens");
    enqueue(&platform).await;
    bounded(platform.shutdown()).await;
    assert_eq!(":0", redis.command(&list));
}

#[tokio::test]
async fn a_redis_that_is_away_is_named_and_the_platform_is_ready() {
    let Some(mut redis) = TestRedis::start() else { return };
    let folder = temporary_folder().expect("a folder");
    let mut settings = settings(folder.path(), redis.settings());
    settings.sqlite.change_check_ms = 25;
    let platform = Platform::open(settings).await.expect("it opens");
    let until_named = async |named: &[&str]| {
        bounded(async {
            while platform.degraded().iter().map(|(part, _)| *part).ne(named.iter().copied()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    };
    until_named(&[]).await;
    redis.stop();
    until_named(&["redis"]).await;
    assert_eq!(Ok(()), platform.check_ready().await);
    enqueue(&platform).await;
    redis.restart();
    until_named(&[]).await;
    bounded(platform.shutdown()).await;
}

#[tokio::test]
async fn a_platform_opens_and_closes_while_redis_is_away() {
    let Some(mut redis) = TestRedis::start() else { return };
    redis.stop();
    let folder = temporary_folder().expect("a folder");
    let platform = bounded(Platform::open(settings(folder.path(), redis.settings()))).await.expect("it opens");
    enqueue(&platform).await;
    bounded(platform.shutdown()).await;
}

/// How many of `calls` writes of one user are admitted.
async fn writes(platform: &Platform, calls: u32) -> u32 {
    let mut admitted = 0;
    for _ in 0..calls {
        let (user, address) = (UserId::from_bytes([7; 16]), IpAddr::from([192, 0, 2, 1]));
        let decision = platform.limiter().check(RouteClass::Write, Some(user), address, 1).await;
        admitted += u32::from(decision.expect("a limit is decided").expect("writes are limited").allowed);
    }
    admitted
}

#[tokio::test]
async fn processes_share_their_limits_and_each_decides_for_a_share_while_redis_is_away() {
    let Some(mut redis) = TestRedis::start() else { return };
    let folder = temporary_folder().expect("a folder");
    let mut settings = settings(folder.path(), redis.settings());
    settings.rate_limits.redis_timeout_ms = 5000;
    let open = async || Platform::open(settings.clone()).await.expect("a process opens the folder");
    let (one, other) = (open().await, open().await);
    assert_eq!((15, 5), (writes(&one, 15).await, writes(&other, 15).await));
    assert_eq!(0, writes(&one, 1).await);

    redis.stop();
    // A quarter of the burst of 20 in each process, though the shared budget was empty.
    assert_eq!((5, 5), (writes(&one, 15).await, writes(&other, 15).await));
    assert!(one.degraded().iter().any(|(part, _)| *part == "redis"), "{:?}", one.degraded());

    let mut apart = settings.clone();
    apart.rate_limits.back_end = LimitsChoice::Memory;
    let apart = Platform::open(apart).await.expect("it opens");
    assert_eq!(20, writes(&apart, 30).await);
    for platform in [one, other, apart] {
        bounded(platform.shutdown()).await;
    }
}

#[tokio::test]
async fn settings_of_redis_that_cannot_be_used_are_named() {
    let folder = temporary_folder().expect("a folder");
    let mut unshared = settings(folder.path(), RedisSettings::default());
    unshared.rate_limits.back_end = LimitsChoice::Redis;
    let mut unnamed = settings(folder.path(), RedisSettings::default());
    unnamed.worker.dispatcher = DispatcherChoice::Redis;
    let mut wrong = settings(folder.path(), RedisSettings::default());
    wrong.redis.url = Secret::new("http://:hunter2@127.0.0.1");
    let mut hasty = settings(folder.path(), RedisSettings::default());
    hasty.rate_limits.redis_timeout_ms = 0;
    for (settings, name) in [
        (unnamed, "worker.dispatcher"),
        (wrong, "redis.url"),
        (unshared, "rate_limits.back_end"),
        (hasty, "rate_limits.redis_timeout_ms"),
    ] {
        let error = Platform::open(settings).await.expect_err("it does not open");
        assert!(matches!(error, OpenError::Setting { setting, .. } if setting == name), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
