//! A store, a dispatcher, a clock, and handlers that a test governs.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Semaphore, mpsc};
use vidcore::clock::{Clock as _, ManualClock, Timestamp};
use vidcore::entropy::SeededEntropy;
use vidcore::events::EventStore as _;
use vidcore::id::JobId;
use vidcore::jobs::dispatcher::{Dispatcher as _, LocalDispatcher};
use vidcore::jobs::retry::RetryPolicy;
use vidcore::jobs::worker::{
    AnnounceJobs, Handlers, JobContext, JobFailure, JobHandler, Worker, WorkerOptions, WorkerParts,
};
use vidcore::jobs::{Job, JobState, JobStore as _, NewJob, QueueName};
use vidcore::notify::LocalNotify;
use vidcore::store::{Causes, Outcome};
use vidcore::testkit::TestStore;
use vidcore::testkit::store::PATIENCE;

pub(crate) const QUEUE: &str = "test";
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MILLISECOND: Duration = Duration::from_millis(1);
/// So long that no test meets it by chance.
pub(crate) const FAR: Duration = Duration::from_secs(36_000);

pub(crate) const OPTIONS: WorkerOptions = WorkerOptions {
    concurrency: 2,
    lease: FAR,
    heartbeat: Duration::from_secs(10),
    sweep: FAR,
    grace: Duration::from_secs(30),
    per_owner: None,
    retry: RetryPolicy { base: Duration::from_secs(8), cap: Duration::from_secs(60) },
};

/// A store, a dispatcher and a clock, for workers of any kind.
pub(crate) struct Site {
    pub(crate) test: TestStore,
    pub(crate) dispatcher: Arc<LocalDispatcher>,
    pub(crate) notify: Arc<LocalNotify>,
}

impl Site {
    pub(crate) async fn new() -> Self {
        Self::with_busy_timeout(PATIENCE).await
    }

    pub(crate) async fn with_busy_timeout(busy_timeout: Duration) -> Self {
        let dispatcher = Arc::new(LocalDispatcher::new());
        let observers = vec![Arc::new(AnnounceJobs(dispatcher.clone())) as _];
        let test = TestStore::open_with(observers, |options| options.busy_timeout = busy_timeout).await;
        Self { test, dispatcher, notify: Arc::new(LocalNotify::new()) }
    }

    pub(crate) fn clock(&self) -> &ManualClock {
        &self.test.clock
    }

    pub(crate) fn worker(&self, handler: impl JobHandler, options: WorkerOptions) -> Worker {
        self.worker_of(Handlers::new().with(QUEUE, "work", Arc::new(handler)), options)
    }

    pub(crate) fn worker_of(&self, handlers: Handlers, options: WorkerOptions) -> Worker {
        let parts = WorkerParts {
            store: Arc::new(self.test.store.clone()),
            dispatcher: self.dispatcher.clone(),
            notify: self.notify.clone(),
            clock: Arc::new(self.clock().clone()),
            entropy: self.test.entropy.clone(),
            name: "tester".to_owned(),
        };
        Worker::start(parts, handlers, options).expect("the worker starts")
    }

    pub(crate) fn new_job(&self, kind: &str) -> NewJob {
        new_job(kind, self.clock().now(), &self.test.entropy)
    }

    pub(crate) async fn enqueue(&self, job: NewJob) -> JobId {
        self.test.store.enqueue(job, Causes::none()).await.map(Outcome::into_inner).expect("it is enqueued").id
    }

    pub(crate) async fn job(&self, id: JobId) -> Job {
        self.test.store.job(id).await.expect("the store answers").expect("the job is there")
    }

    /// Waits until the worker, which has threads of its own, has brought the job into `state`.
    pub(crate) async fn until(&self, id: JobId, state: JobState) -> Job {
        bounded(async {
            loop {
                let job = self.job(id).await;
                if job.state == state {
                    return job;
                }
            }
        })
        .await
    }

    /// Makes the worker look for jobs, and gives it time to.
    pub(crate) async fn wake_worker(&self) {
        self.dispatcher.wake_all();
        for _ in 0..20 {
            self.test.store.job_counts().await.expect("the store answers");
        }
    }

    /// Moves time on second by second until `done` is.
    pub(crate) async fn while_time_passes<T>(&self, done: impl Future<Output = T>) -> T {
        let passing = async {
            loop {
                self.clock().advance(SECOND);
                // A write that has nothing to write: it waits for those before it, so that time does
                // not run away from a worker whose own writes wait for the disk.
                let now = self.clock().now();
                self.test.store.prune_changes(now).await.expect("the store answers");
            }
        };
        bounded(async {
            tokio::select! {
                done = done => done,
                never = passing => never,
            }
        })
        .await
    }
}

pub(crate) fn new_job(kind: &str, now: Timestamp, entropy: &SeededEntropy) -> NewJob {
    NewJob {
        id: JobId::new(now, entropy),
        queue: QueueName::new(QUEUE),
        kind: kind.to_owned(),
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
    }
}

pub(crate) async fn bounded<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens in time")
}

/// Ends its attempts one after another as it was told to, and notes when they began.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) endings: Mutex<VecDeque<Result<(), JobFailure>>>,
    began: mpsc::UnboundedSender<Timestamp>,
    pub(crate) clock: ManualClock,
}

pub(crate) fn script<const N: usize>(
    site: &Site,
    endings: [Result<(), JobFailure>; N],
) -> (Script, mpsc::UnboundedReceiver<Timestamp>) {
    let (began, beginnings) = mpsc::unbounded_channel();
    (Script { endings: Mutex::new(endings.into()), began, clock: site.clock().clone() }, beginnings)
}

#[async_trait]
impl JobHandler for Script {
    async fn run(&self, _: JobContext) -> Result<Causes, JobFailure> {
        self.began.send(self.clock.now()).expect("the test listens");
        self.endings
            .lock()
            .expect("no handler panics here")
            .pop_front()
            .expect("an attempt is expected")
            .map(|()| Causes::none())
    }
}

/// Goes on until it is let go, or until it is cancelled where it heeds that.
#[derive(Debug)]
pub(crate) struct Gate {
    began: mpsc::UnboundedSender<JobContext>,
    pub(crate) open: Arc<Semaphore>,
    heeds_cancel: bool,
}

pub(crate) struct GateKeeper {
    began: mpsc::UnboundedReceiver<JobContext>,
    pub(crate) open: Arc<Semaphore>,
}

pub(crate) fn gate(heeds_cancel: bool) -> (Gate, GateKeeper) {
    let (sender, began) = mpsc::unbounded_channel();
    let open = Arc::new(Semaphore::new(0));
    (Gate { began: sender, open: open.clone(), heeds_cancel }, GateKeeper { began, open })
}

impl GateKeeper {
    /// The next attempt that has begun.
    pub(crate) async fn next(&mut self) -> JobContext {
        bounded(self.began.recv()).await.expect("the worker lives")
    }

    pub(crate) fn let_go(&self, attempts: usize) {
        self.open.add_permits(attempts);
    }
}

#[async_trait]
impl JobHandler for Gate {
    async fn run(&self, context: JobContext) -> Result<Causes, JobFailure> {
        let cancel = context.cancel.clone();
        self.began.send(context).expect("the test listens");
        tokio::select! {
            permit = self.open.acquire() => {
                permit.expect("the gate is never closed").forget();
                Ok(Causes::none())
            }
            () = cancel.cancelled(), if self.heeds_cancel => Err(JobFailure::Cancelled),
        }
    }
}

/// What was logged on this thread, which is where the worker's tasks run.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn capture(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || log.clone()).with_ansi(false).finish();
        tracing::subscriber::set_default(subscriber)
    }

    pub(crate) fn count(&self, text: &str) -> usize {
        let bytes = self.0.lock().expect("writing does not panic");
        String::from_utf8_lossy(&bytes).lines().filter(|line| line.contains(text)).count()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("writing does not panic").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
