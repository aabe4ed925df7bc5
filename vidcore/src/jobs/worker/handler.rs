//! What a job is run by: the handler, what it is given, and how it says that it failed.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::jobs::cron::CronEntry;
use crate::jobs::{Lease, QueueName};
use crate::store::{BoxError, Causes};

/// How a handler ends an attempt that did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobFailure {
    /// Another attempt may succeed. One that met a full disk, which is an [`std::io::Error`] of that kind among
    /// the sources, does not count.
    #[error("{0}")]
    Retry(#[source] BoxError),
    /// No attempt can succeed; the text is for a person.
    #[error("{0}")]
    Permanent(String),
    /// The cancel token fired and the handler stopped.
    #[error("cancelled")]
    Cancelled,
    /// The lease is lost: another worker may own the job, nothing may be written.
    #[error("lease is no longer held")]
    Fenced,
}

/// What a handler works with.
#[derive(Debug, Clone)]
pub struct JobContext {
    /// The job and the token under which every write is made.
    pub lease: Lease,
    /// Fires when the job is cancelled, its lease is lost, or the worker gives it back.
    pub cancel: CancellationToken,
    progress: Arc<AtomicU16>,
}

impl JobContext {
    /// A context outside any worker, for tests of handlers.
    pub fn new(lease: Lease) -> Self {
        Self { lease, cancel: CancellationToken::new(), progress: Arc::new(AtomicU16::new(0)) }
    }

    /// Notes how far the job is, as a share from 0.0 to 1.0; the next heartbeat writes it.
    pub fn progress(&self, share: f32) {
        let permille = (share.clamp(0.0, 1.0) * 1000.0) as u16;
        self.progress.fetch_max(permille, Ordering::Relaxed);
    }

    pub(crate) fn permille(&self) -> u16 {
        self.progress.load(Ordering::Relaxed)
    }
}

/// Runs the jobs of one kind.
///
/// # Contract
/// * `run` may be called again for a job whose earlier attempt ended anyhow, also without a trace, so
///   it is idempotent: what was published is found and left alone.
/// * Every write names the lease's fence. When `cancel` fires, `run` stops soon.
/// * A panic counts as a failed attempt.
#[async_trait]
pub trait JobHandler: fmt::Debug + Send + Sync + 'static {
    /// Works on one attempt. `Ok` means the job is done, with what it causes: jobs, groups and changes are
    /// written in the transaction that ends it, or not at all. Such causes carry no idempotency record.
    async fn run(&self, context: JobContext) -> Result<Causes, JobFailure>;
}

/// Handlers by job kind and queue.
#[derive(Debug, Clone, Default)]
pub struct Handlers {
    pub(super) kinds: HashMap<String, Arc<dyn JobHandler>>,
    pub(super) queues: Vec<QueueName>,
    pub(super) cron: Vec<CronEntry>,
}

impl Handlers {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs the jobs of `kind`, which wait in `queue`, with `handler`.
    #[must_use]
    pub fn with(mut self, queue: &str, kind: &str, handler: Arc<dyn JobHandler>) -> Self {
        let queue = QueueName::new(queue);
        if !self.queues.contains(&queue) {
            self.queues.push(queue);
        }
        self.kinds.insert(kind.to_owned(), handler);
        self
    }

    /// The queues whose jobs they run.
    pub fn queues(&self) -> &[QueueName] {
        &self.queues
    }

    /// Writes a job at every moment of a schedule; [`with`](Self::with) says who runs it.
    #[must_use]
    pub fn cron(mut self, entry: CronEntry) -> Self {
        self.cron.push(entry);
        self
    }
}
