//! The worker: claims jobs, runs their handlers, keeps their leases alive, and settles them.
//!
//! Heartbeats run on a thread of their own with a small runtime, so that a handler which keeps every
//! async thread busy does not lose its lease. Stopping means: claim nothing more, let running jobs
//! finish for the grace time, then cancel them and give them back uncounted.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::entropy::Entropy;
use crate::jobs::cron::Ticker;
use crate::jobs::dispatcher::Dispatcher;
use crate::jobs::heart::{Heart, Pulse};
use crate::jobs::retry::RetryPolicy;
use crate::jobs::{JOB_RESUMES, JobHint};
use crate::notify;
use crate::store::Store;

mod handler;
mod runner;

pub use handler::{Handlers, JobContext, JobFailure, JobHandler};

use runner::{Runner, run};

/// How a worker works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerOptions {
    /// Jobs run at once, at least 1.
    pub concurrency: u16,
    /// How long a claim holds without a heartbeat.
    pub lease: Duration,
    /// How often a claim is renewed; at most a third of `lease`.
    pub heartbeat: Duration,
    /// How often expired claims and unannounced jobs are looked for.
    pub sweep: Duration,
    /// How long running jobs may go on at shutdown.
    pub grace: Duration,
    /// The most jobs of one owner that may run at once in one queue, over all workers; `None`: any number.
    pub per_owner: Option<NonZeroU32>,
    /// Delays between attempts.
    pub retry: RetryPolicy,
}

/// What a worker is made of.
#[derive(Debug, Clone)]
pub struct WorkerParts {
    /// The truth.
    pub store: Arc<dyn Store>,
    /// Where hints come from.
    pub dispatcher: Arc<dyn Dispatcher>,
    /// Where news comes from that a running job is to stop; without it, the next heartbeat tells.
    pub notify: Arc<dyn notify::Notify>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Jitter.
    pub entropy: Arc<dyn Entropy>,
    /// Shown in attempts, such as `host:pid`.
    pub name: String,
}

/// A running worker. Dropping it cancels its jobs and gives them back; [`stop`](Worker::stop) drains.
#[derive(Debug)]
pub struct Worker {
    stop: CancellationToken,
    abort: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Worker {
    /// Starts a worker on the current tokio runtime.
    ///
    /// # Errors
    /// [`std::io::Error`] if the heartbeat thread cannot be started.
    pub fn start(parts: WorkerParts, handlers: Handlers, options: WorkerOptions) -> std::io::Result<Self> {
        let (stop, abort) = (CancellationToken::new(), CancellationToken::new());
        let pulse = Pulse {
            store: Arc::clone(&parts.store),
            clock: Arc::clone(&parts.clock),
            every: options.heartbeat,
            lease: options.lease,
        };
        let heart = Heart::start(pulse, parts.notify.subscribe())?;
        let ticker = Ticker {
            store: Arc::clone(&parts.store),
            clock: Arc::clone(&parts.clock),
            entropy: Arc::clone(&parts.entropy),
            entries: handlers.cron.clone(),
        };
        let runner = Arc::new(Runner {
            slots: Arc::new(Semaphore::new(usize::from(options.concurrency.max(1)))),
            freed: Notify::new(),
            parts,
            handlers,
            options,
            heart,
            stop: stop.clone(),
            abort: abort.clone(),
        });
        let ticking = ticker.run(stop.clone());
        let task = tokio::spawn(async move {
            tokio::join!(run(runner), ticking);
        });
        Ok(Self { stop, abort, task })
    }

    /// Claims nothing more, lets running jobs finish for the grace time, then cancels them and gives
    /// them back uncounted. A handler that does not stop within 5 s of that is left behind.
    pub async fn stop(mut self) {
        self.stop.cancel();
        // The task ends by itself: it bounds its own drain.
        let _ = (&mut self.task).await;
    }

    /// Asks the worker to stop without waiting for it.
    pub fn begin_stop(&self) {
        self.stop.cancel();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.cancel();
        self.abort.cancel();
    }
}

/// Told by commits: passes the hints of this process on to its dispatcher.
#[derive(Debug)]
pub struct AnnounceJobs(pub Arc<dyn Dispatcher>);

impl crate::store::CommitObserver for AnnounceJobs {
    fn committed(&self, committed: &crate::store::Committed) {
        let hints: &[JobHint] = &committed.jobs;
        if !hints.is_empty() {
            self.0.announce(hints);
        }
        // What a paused queue holds was announced long ago.
        if committed.changes.iter().any(|change| change.topic == JOB_RESUMES) {
            self.0.wake_all();
        }
    }
}
