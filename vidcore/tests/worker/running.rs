//! One worker and its jobs, from the claim to the end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use vidcore::catalog::CatalogError;
use vidcore::clock::{Clock, SystemClock};
use vidcore::entropy::SeededEntropy;
use vidcore::id::JobId;
use vidcore::jobs::dispatcher::LocalDispatcher;
use vidcore::jobs::worker::{
    AnnounceJobs, Handlers, JobContext, JobFailure, JobHandler, Worker, WorkerOptions, WorkerParts,
};
use vidcore::jobs::{Claim, Death, JobState, JobStore, NewJob, QueueName};
use vidcore::notify::LocalNotify;
use vidcore::storage::objects::ObjectError;
use vidcore::store::sqlite::{FILE_NAME, SqliteOptions, SqliteStore};
use vidcore::store::{Causes, StoreError};
use vidcore::testkit::store::temporary_folder;

use crate::site::*;

#[tokio::test]
async fn an_announced_job_is_run_and_done() {
    let site = Site::new().await;
    let (handler, mut began) = script(&site, [Ok(())]);
    let worker = site.worker(handler, OPTIONS);
    let id = site.enqueue(site.new_job("work")).await;
    bounded(began.recv()).await.expect("it begins");
    let done = site.until(id, JobState::Done).await;
    assert_eq!((1, 1000, None), (done.attempts, done.progress, done.last_error));
    worker.stop().await;
}

#[tokio::test]
async fn a_delayed_job_is_run_when_it_is_due_without_a_sweep() {
    let site = Site::new().await;
    let (handler, mut began) = script(&site, [Ok(())]);
    let worker = site.worker(handler, OPTIONS);
    let run_at = site.clock().now().plus(Duration::from_secs(90));
    site.enqueue(NewJob { run_at, ..site.new_job("work") }).await;
    let begun = site.while_time_passes(began.recv()).await.expect("it begins");
    assert!(begun >= run_at, "{begun} is before {run_at}");
    worker.stop().await;
}

#[tokio::test]
async fn a_failed_attempt_is_repeated_after_its_backoff_and_not_before() {
    let site = Site::new().await;
    let (handler, mut began) = script(&site, [Err(JobFailure::Retry("no luck".into())), Ok(())]);
    let worker = site.worker(handler, OPTIONS);
    let id = site.enqueue(site.new_job("work")).await;
    let first = bounded(began.recv()).await.expect("it begins");
    let queued = bounded(async {
        loop {
            let job = site.job(id).await;
            if job.state == JobState::Queued && job.attempts == 1 {
                return job;
            }
        }
    })
    .await;
    assert_eq!(Some("no luck".to_owned()), queued.last_error);
    let delay = queued.run_at.since(first);
    assert!(delay > Duration::ZERO && delay <= OPTIONS.retry.base, "{delay:?}");
    site.clock().advance(delay - MILLISECOND);
    site.wake_worker().await;
    assert!(began.try_recv().is_err(), "begun before its time");
    let second = site.while_time_passes(began.recv()).await.expect("it begins again");
    assert!(second >= queued.run_at);
    assert_eq!(2, site.until(id, JobState::Done).await.attempts);
    worker.stop().await;
}

/// However deep the full disk lies in the error.
#[tokio::test]
async fn attempts_that_meet_a_full_disk_do_not_count() {
    let site = Site::new().await;
    let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
    let endings = [
        Err(JobFailure::Retry(full().into())),
        Err(JobFailure::Retry(ObjectError::Full(full()).into())),
        Err(JobFailure::Retry(StoreError::Full { operation: "write", source: full() }.into())),
        Err(JobFailure::Retry(CatalogError::Store(StoreError::Full { operation: "write", source: full() }).into())),
        Err(JobFailure::Retry(std::io::Error::other(full()).into())),
        Ok(()),
    ];
    let (handler, _began) = script(&site, endings);
    let worker = site.worker(handler, WorkerOptions { sweep: SECOND, ..OPTIONS });
    let id = site.enqueue(NewJob { max_attempts: 1, ..site.new_job("work") }).await;
    let done = site.while_time_passes(site.until(id, JobState::Done)).await;
    assert_eq!(1, done.attempts);
    worker.stop().await;
}

#[tokio::test]
async fn a_permanent_failure_is_the_end_with_its_reason() {
    let site = Site::new().await;
    let (handler, _began) = script(&site, [Err(JobFailure::Permanent("not a video".to_owned()))]);
    let worker = site.worker(handler, OPTIONS);
    let id = site.enqueue(site.new_job("work")).await;
    let dead = site.until(id, JobState::Dead).await;
    assert_eq!((1, Some(Death::Permanent)), (dead.attempts, dead.death));
    assert_eq!(Some("not a video".to_owned()), dead.last_error);
    worker.stop().await;
}

#[derive(Debug)]
struct Panics;

#[async_trait]
impl JobHandler for Panics {
    async fn run(&self, context: JobContext) -> Result<Causes, JobFailure> {
        assert!(context.lease.job.payload.is_string(), "this one panics");
        Ok(Causes::none())
    }
}

#[tokio::test]
async fn a_panic_is_a_failed_attempt_and_the_worker_goes_on() {
    let site = Site::new().await;
    let worker = site.worker(Panics, OPTIONS);
    let poison = site.enqueue(NewJob { max_attempts: 1, ..site.new_job("work") }).await;
    let dead = site.until(poison, JobState::Dead).await;
    assert_eq!(Some(Death::Exhausted), dead.death);
    let sound = site.enqueue(NewJob { payload: "sound".into(), ..site.new_job("work") }).await;
    site.until(sound, JobState::Done).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_job_of_a_kind_nobody_handles_fails_its_attempts_and_dies() {
    let site = Site::new().await;
    let (handler, _began) = script(&site, []);
    let worker = site.worker(handler, OPTIONS);
    let id = site.enqueue(NewJob { max_attempts: 2, ..site.new_job("unheard of") }).await;
    let dead = site.while_time_passes(site.until(id, JobState::Dead)).await;
    assert_eq!((2, Some(Death::Exhausted)), (dead.attempts, dead.death));
    assert!(dead.last_error.is_some_and(|error| error.contains("unheard of")));
    worker.stop().await;
}

#[tokio::test]
async fn no_more_jobs_run_at_once_than_there_are_slots() {
    let site = Site::new().await;
    let (handler, mut keeper) = gate(true);
    let worker = site.worker(handler, OPTIONS);
    for _ in 0..5 {
        site.enqueue(site.new_job("work")).await;
    }
    for finished in 0..4 {
        keeper.next().await;
        if finished >= 1 {
            let counts = site.test.store.job_counts().await.expect("the store answers");
            let leased = counts.iter().find(|(_, state, _)| *state == JobState::Leased).map_or(0, |count| count.2);
            assert!(leased <= 2, "{leased} at once");
            keeper.let_go(1);
        }
    }
    keeper.let_go(5);
    keeper.next().await;
    worker.stop().await;
    assert!(site.test.store.job_counts().await.expect("the store answers").is_empty());
}

#[tokio::test]
async fn stopping_lets_a_running_job_finish_and_claims_no_other() {
    let site = Site::new().await;
    let (handler, mut keeper) = gate(true);
    let worker = site.worker(handler, OPTIONS);
    let running = site.enqueue(site.new_job("work")).await;
    keeper.next().await;
    worker.begin_stop();
    let waiting = site.enqueue(site.new_job("work")).await;
    keeper.let_go(1);
    bounded(worker.stop()).await;
    assert_eq!(JobState::Done, site.job(running).await.state);
    assert_eq!((JobState::Queued, 0), (site.job(waiting).await.state, site.job(waiting).await.attempts));
}

#[tokio::test]
async fn after_the_grace_time_a_job_is_given_back_uncounted() {
    let site = Site::new().await;
    let (handler, mut keeper) = gate(true);
    let worker = site.worker(handler, OPTIONS);
    let id = site.enqueue(site.new_job("work")).await;
    let begun = keeper.next().await;
    site.while_time_passes(worker.stop()).await;
    let job = site.job(id).await;
    assert_eq!((JobState::Queued, 0, None), (job.state, job.attempts, job.last_error));
    assert!(begun.cancel.is_cancelled());
}

#[tokio::test]
async fn a_handler_that_does_not_stop_is_left_behind() {
    let site = Site::new().await;
    let (handler, mut keeper) = gate(false);
    let worker = site.worker(handler, OPTIONS);
    let id = site.enqueue(site.new_job("work")).await;
    keeper.next().await;
    site.while_time_passes(worker.stop()).await;
    let job = site.job(id).await;
    assert_eq!((JobState::Queued, 0), (job.state, job.attempts));
}

#[tokio::test]
async fn a_cancelled_job_stops_its_handler() {
    let site = Site::new().await;
    let (handler, mut keeper) = gate(true);
    let worker = site.worker(handler, OPTIONS);
    let id = site.enqueue(site.new_job("work")).await;
    let begun = keeper.next().await;
    site.test.store.cancel(id, None, Causes::none()).await.expect("it is live");
    let ended = site.while_time_passes(site.until(id, JobState::Cancelled)).await;
    assert!(begun.cancel.is_cancelled());
    assert_eq!((1, None), (ended.attempts, ended.last_error));
    worker.stop().await;
}

#[tokio::test]
async fn a_heartbeat_writes_progress_and_renews_the_lease() {
    let site = Site::new().await;
    let (handler, mut keeper) = gate(true);
    let worker = site.worker(handler, OPTIONS);
    let id = site.enqueue(site.new_job("work")).await;
    let begun = keeper.next().await;
    begun.progress(0.25);
    let seen = async {
        loop {
            let job = site.job(id).await;
            if job.progress > 0 {
                return job.progress;
            }
        }
    };
    assert_eq!(250, site.while_time_passes(seen).await);
    keeper.let_go(1);
    worker.stop().await;
}

#[tokio::test]
async fn an_attempt_that_lost_its_lease_logs_it_and_writes_nothing() {
    let log = Log::default();
    let _guard = log.capture();
    let site = Site::new().await;
    let (handler, mut keeper) = gate(true);
    let lease = Duration::from_secs(10);
    let worker = site.worker(handler, WorkerOptions { concurrency: 1, lease, heartbeat: FAR, ..OPTIONS });
    let id = site.enqueue(site.new_job("work")).await;
    keeper.next().await;
    site.clock().advance(lease);
    site.test.store.sweep().await.expect("the store answers");
    let claim = Claim {
        queues: vec![QueueName::new(QUEUE)],
        limit: 1,
        lease_for: FAR,
        worker: "another".to_owned(),
        per_owner: None,
    };
    let other = site.test.store.lease(claim).await.expect("the store answers").pop();
    let other = other.expect("the job was freed and the worker's one slot is taken");
    let before = site.job(id).await;
    keeper.let_go(1);
    bounded(worker.stop()).await;
    assert_eq!(before, site.job(id).await);
    assert_eq!(1, log.count("fenced: the attempt"));
    site.test.store.complete(other.fence(), Causes::none()).await.expect("the other attempt holds it");
    assert_eq!(2, site.job(id).await.attempts);
}

#[tokio::test]
async fn a_lost_lease_stops_the_handler() {
    let site = Site::new().await;
    let (handler, mut keeper) = gate(true);
    let worker = site.worker(handler, OPTIONS);
    let id = site.enqueue(site.new_job("work")).await;
    let begun = keeper.next().await;
    site.test.connection().execute("UPDATE jobs SET lease_until_ms = 0", []).expect("the row is there");
    site.while_time_passes(begun.cancel.cancelled()).await;
    bounded(worker.stop()).await;
    assert_eq!(JobState::Leased, site.job(id).await.state, "only a sweep may free it");
}

#[tokio::test]
async fn a_store_that_is_locked_out_delays_a_claim_without_spinning() {
    let log = Log::default();
    let _guard = log.capture();
    let site = Site::with_busy_timeout(MILLISECOND).await;
    let id = site.enqueue(site.new_job("work")).await;
    let lock = site.test.connection();
    lock.execute_batch("BEGIN IMMEDIATE").expect("nobody else writes");
    let (handler, mut began) = script(&site, [Ok(())]);
    let worker = site.worker(handler, OPTIONS);
    bounded(async {
        while log.count("claiming jobs failed") == 0 {
            site.job(id).await;
        }
    })
    .await;
    for _ in 0..100 {
        site.job(id).await;
    }
    assert_eq!(1, log.count("claiming jobs failed"), "repeated while time stood still");
    lock.execute_batch("ROLLBACK").expect("the lock is given up");
    site.while_time_passes(began.recv()).await.expect("it begins");
    site.until(id, JobState::Done).await;
    worker.stop().await;
}

#[tokio::test]
async fn work_that_is_done_outlives_a_store_that_is_locked_out() {
    let log = Log::default();
    let _guard = log.capture();
    let site = Site::with_busy_timeout(MILLISECOND).await;
    let (handler, mut keeper) = gate(true);
    let worker = site.worker(handler, OPTIONS);
    let id = site.enqueue(site.new_job("work")).await;
    keeper.next().await;
    let lock = site.test.connection();
    lock.execute_batch("BEGIN IMMEDIATE").expect("nobody else writes");
    keeper.let_go(1);
    bounded(async {
        while log.count("will be repeated") == 0 {
            site.job(id).await;
        }
    })
    .await;
    lock.execute_batch("ROLLBACK").expect("the lock is given up");
    let done = site.while_time_passes(site.until(id, JobState::Done)).await;
    assert_eq!(1, done.attempts);
    worker.stop().await;
}

/// Keeps an async thread busy without ever giving it back.
#[derive(Debug)]
struct Busy(Duration);

#[async_trait]
impl JobHandler for Busy {
    async fn run(&self, _: JobContext) -> Result<Causes, JobFailure> {
        let begun = Instant::now();
        while begun.elapsed() < self.0 {
            std::hint::spin_loop();
        }
        Ok(Causes::none())
    }
}

/// In real time, which is what CPU work takes: every async thread is blocked for twice the lease,
/// while another process sweeps.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_keep_the_leases_of_jobs_that_block_every_async_thread() {
    let lease = Duration::from_millis(1500);
    let folder = temporary_folder().expect("there is a temporary folder");
    let dispatcher = Arc::new(LocalDispatcher::new());
    let clock = Arc::new(SystemClock::new());
    let options = SqliteOptions::new(folder.path().join(FILE_NAME));
    let observers = vec![Arc::new(AnnounceJobs(dispatcher.clone())) as _];
    let store = SqliteStore::open(&options, clock.clone(), observers).expect("the store opens");
    let entropy = Arc::new(SeededEntropy::new(3));
    let mut jobs = Vec::new();
    for _ in 0..2 {
        let job = new_job("work", clock.now(), &entropy);
        jobs.push(store.enqueue(job, Causes::none()).await.expect("it is enqueued").into_inner().id);
    }
    let sweeper = std::thread::spawn({
        let store = SqliteStore::open(&options, clock.clone(), Vec::new()).expect("a second store opens");
        let jobs = jobs.clone();
        move || sweep_until_done(&store, &jobs)
    });
    let notify = Arc::new(LocalNotify::new());
    let parts = WorkerParts { store: Arc::new(store), dispatcher, notify, clock, entropy, name: "tester".to_owned() };
    let handlers = Handlers::new().with(QUEUE, "work", Arc::new(Busy(lease * 2)));
    let heartbeat = Duration::from_millis(150);
    let worker = Worker::start(parts, handlers, WorkerOptions { lease, heartbeat, ..OPTIONS }).expect("it starts");
    let rescued = tokio::task::spawn_blocking(move || sweeper.join()).await.expect("it is joined");
    assert_eq!(0, rescued.expect("sweeping does not panic"));
    worker.stop().await;
}

/// Sweeps as another process does; returns how many jobs it freed before all were done.
fn sweep_until_done(store: &SqliteStore, jobs: &[JobId]) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime starts");
    runtime.block_on(bounded(async {
        let mut freed = 0;
        loop {
            let swept = store.sweep().await.expect("the store answers");
            freed += swept.rescued + swept.dead;
            let mut done = true;
            for &id in jobs {
                let job = store.job(id).await.expect("the store answers").expect("the job is there");
                done &= job.state == JobState::Done;
            }
            if done {
                return freed;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }))
}
