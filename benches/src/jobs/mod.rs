//! Jobs that do nothing, so that what is measured is the engine: throughput beside a bare loop over the
//! same statements, pick-up on an idle queue, and claims before a deep queue.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use vidcore::clock::{Clock as _, SystemClock};
use vidcore::entropy::SystemEntropy;
use vidcore::id::JobId;
use vidcore::jobs::dispatcher::{Dispatcher, LocalDispatcher};
use vidcore::jobs::retry::RetryPolicy;
use vidcore::jobs::worker::{
    AnnounceJobs, Handlers, JobContext, JobFailure, JobHandler, Worker, WorkerOptions, WorkerParts,
};
use vidcore::jobs::{JobStore as _, NewJob};
use vidcore::notify::LocalNotify;
use vidcore::store::Causes;
use vidcore::store::sqlite::{FILE_NAME, SqliteOptions, SqliteStore};

use crate::Failure;

pub mod bullmq;
pub mod depth;
pub mod pickup;
pub mod throughput;

/// The queue of all jobs here, and their kind.
pub const QUEUE: &str = "bench";

/// Jobs one consumer may run at once, which is also the size of the bare loop's transactions.
pub const SLOTS: u16 = 50;

/// Jobs written by one transaction when a queue is filled.
const FILL: usize = 500;

/// Does nothing and counts.
#[derive(Debug, Default)]
pub struct NoOp(pub AtomicUsize);

#[async_trait]
impl JobHandler for NoOp {
    async fn run(&self, _: JobContext) -> Result<Causes, JobFailure> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(Causes::none())
    }
}

/// A job of [`QUEUE`] that is due now.
pub fn new_job() -> NewJob {
    let now = SystemClock::new().now();
    NewJob::new(JobId::new(now, &SystemEntropy), QUEUE, QUEUE, Value::Null, now)
}

/// A store on a file of its own with whatever carries its hints.
#[derive(Debug)]
pub struct Site {
    /// The store.
    pub store: SqliteStore,
    /// Told by its commits.
    pub dispatcher: Arc<dyn Dispatcher>,
}

impl Site {
    /// Opens the store in `folder`; hints stay in this process.
    ///
    /// # Errors
    /// The store does not open.
    pub fn open(folder: &Path) -> Result<Self, Failure> {
        Self::open_with(folder, Arc::new(LocalDispatcher::new()))
    }

    /// Opens the store in `folder` with another dispatcher.
    ///
    /// # Errors
    /// The store does not open.
    pub fn open_with(folder: &Path, dispatcher: Arc<dyn Dispatcher>) -> Result<Self, Failure> {
        let observers = vec![Arc::new(AnnounceJobs(Arc::clone(&dispatcher))) as _];
        let options = SqliteOptions::new(folder.join(FILE_NAME));
        let store = SqliteStore::open(&options, Arc::new(SystemClock::new()), observers)?;
        Ok(Self { store, dispatcher })
    }

    /// Queues `count` jobs.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn fill(&self, count: usize) -> Result<(), Failure> {
        for done in (0..count).step_by(FILL) {
            let more = (1..FILL.min(count - done)).fold(Causes::none(), |causes, _| causes.job(new_job()));
            self.store.enqueue(new_job(), more).await?;
        }
        Ok(())
    }

    /// Starts a worker of [`SLOTS`] slots.
    ///
    /// # Errors
    /// Its thread cannot be started.
    pub fn worker(&self, handler: Arc<dyn JobHandler>) -> Result<Worker, Failure> {
        let parts = WorkerParts {
            store: Arc::new(self.store.clone()),
            dispatcher: Arc::clone(&self.dispatcher),
            notify: Arc::new(LocalNotify::new()),
            clock: Arc::new(SystemClock::new()),
            entropy: Arc::new(SystemEntropy),
            name: "bench".to_owned(),
        };
        let options = WorkerOptions {
            concurrency: SLOTS,
            lease: Duration::from_secs(60),
            heartbeat: Duration::from_secs(20),
            sweep: Duration::from_secs(5),
            grace: Duration::from_secs(5),
            per_owner: None,
            retry: RetryPolicy::default(),
        };
        Ok(Worker::start(parts, Handlers::new().with(QUEUE, QUEUE, handler), options)?)
    }

    /// Waits until no job is queued or leased.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn until_empty(&self) -> Result<(), Failure> {
        while !self.store.job_counts().await?.is_empty() {
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        Ok(())
    }
}
