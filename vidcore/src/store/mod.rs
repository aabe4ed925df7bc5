//! The truth: one [`Store`] per database, cut by transaction.
//!
//! A mutating method of a sub-trait is one business command and one transaction. What the command
//! causes elsewhere (jobs to run, cached copies to drop, an idempotency record) is passed as
//! [`Causes`] and written with the same handle, so that either all of it exists or none of it.
//! Ids, times, random values and hashes are made by the service before the call; closures,
//! transactions and connections never appear in a trait.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::auth::AccountStore;
use crate::catalog::CatalogStore;
use crate::doctor::DoctorStore;
use crate::events::{Change, EventStore, NewChange};
use crate::idempotency::{IdempotencyRecord, IdempotencyStore};
use crate::jobs::{JobHint, JobStore, NewJob, NewJobGroup};
use crate::media::RenditionStore;
use crate::media::lifecycle::LifecycleStore;
use crate::storage::UploadStore;

#[cfg(feature = "sqlite")]
pub mod sqlite;

/// An error of some other crate, kept for the log.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Every sub-trait of one database, as one value.
pub trait Store:
    AccountStore
    + CatalogStore
    + RenditionStore
    + LifecycleStore
    + UploadStore
    + JobStore
    + EventStore
    + IdempotencyStore
    + DoctorStore
    + fmt::Debug
    + Send
    + Sync
    + 'static
{
}

/// Why a store did not carry out a command, whatever the command was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database did not answer in time or its queue is full; the same call may succeed later.
    #[error("database unavailable: {operation}")]
    Unavailable {
        /// What was being done, for the log.
        operation: &'static str,
        /// The back end's own words.
        #[source]
        source: BoxError,
    },
    /// The disk that holds the database is full; nothing was written.
    #[error("no space left for the database: {operation}")]
    Full {
        /// What was being done, for the log.
        operation: &'static str,
        /// Of the kind `StorageFull`, so that whoever sees it inside another error knows it too.
        #[source]
        source: std::io::Error,
    },
    /// The `Idempotency-Key` was used before with another request; nothing was written.
    #[error("idempotency key was used with another request")]
    KeyReused,
    /// A row could not be understood or a rule of the schema was broken: a defect, not an outcome.
    #[error("database defect: {operation}")]
    Defect {
        /// What was being done, for the log.
        operation: &'static str,
        /// The back end's own words.
        #[source]
        source: BoxError,
    },
}

impl StoreError {
    /// Whether the same call may succeed later without any change by the caller.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Full { .. })
    }

    /// [`Full`](Self::Full), in the back end's own words.
    pub(crate) fn full(operation: &'static str, source: impl Into<BoxError>) -> Self {
        Self::Full { operation, source: std::io::Error::new(std::io::ErrorKind::StorageFull, source) }
    }

    /// The same failure once more, for another caller it concerns; its source becomes text.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::Unavailable { operation, source } => {
                Self::Unavailable { operation, source: source.to_string().into() }
            }
            Self::Full { operation, source } => Self::full(operation, source.to_string()),
            Self::KeyReused => Self::KeyReused,
            Self::Defect { operation, source } => Self::Defect { operation, source: source.to_string().into() },
        }
    }
}

/// What a command writes besides its own rows, in the same transaction.
#[derive(Debug, Clone, Default)]
pub struct Causes {
    /// Jobs to enqueue. One whose unique key has a live job already is left out.
    pub jobs: Vec<NewJob>,
    /// Groups of those jobs.
    pub groups: Vec<NewJobGroup>,
    /// Cached copies that the command makes stale.
    pub changes: Vec<NewChange>,
    /// The caller's idempotency record, looked up before the command runs.
    pub idempotency: Option<IdempotencyRecord>,
}

impl Causes {
    /// Nothing besides the command.
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds a job.
    #[must_use]
    pub fn job(mut self, job: NewJob) -> Self {
        self.jobs.push(job);
        self
    }

    /// Adds a group of jobs; its members name it and are added one by one.
    #[must_use]
    pub fn group(mut self, group: NewJobGroup) -> Self {
        self.groups.push(group);
        self
    }

    /// Adds an invalidation.
    #[must_use]
    pub fn change(mut self, change: NewChange) -> Self {
        self.changes.push(change);
        self
    }

    /// Sets the idempotency record; `None` leaves the command without one.
    #[must_use]
    pub fn idempotent(mut self, record: Option<IdempotencyRecord>) -> Self {
        self.idempotency = record;
        self
    }
}

/// Whether a command ran now, or had already run under the same idempotency key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome<T> {
    /// The command ran and was committed.
    Done(T),
    /// An earlier call with the same key ran it; this is what it returned.
    Replayed {
        /// The result of the first run.
        value: T,
        /// The bytes the service had sealed for the first run, if any.
        sealed: Option<Vec<u8>>,
    },
}

impl<T> Outcome<T> {
    /// The command's result, whichever call ran it.
    pub fn into_inner(self) -> T {
        match self {
            Self::Done(value) | Self::Replayed { value, .. } => value,
        }
    }

    /// The same outcome with its value turned into another form.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Outcome<U> {
        match self {
            Self::Done(value) => Outcome::Done(f(value)),
            Self::Replayed { value, sealed } => Outcome::Replayed { value: f(value), sealed },
        }
    }
}

/// What a group of commands committed, for those who act on it at once.
#[derive(Debug, Clone, Default)]
pub struct Committed {
    /// Invalidations, in commit order.
    pub changes: Vec<Change>,
    /// Jobs that were queued, whether due now or later: who waits has to look when the next one is due.
    pub jobs: Vec<JobHint>,
}

/// Told about every commit of this process after it is durable and before its callers are answered.
///
/// # Contract
/// * `committed` does not block and does not call the store.
/// * Hints and invalidations may also reach the process another way; acting twice is harmless.
pub trait CommitObserver: fmt::Debug + Send + Sync + 'static {
    /// Acts on what was just committed.
    fn committed(&self, committed: &Committed);
}

/// The observers of one store, called in order.
pub type CommitObservers = Vec<Arc<dyn CommitObserver>>;

/// Proof that the caller holds a job: every write on a job's behalf names it.
///
/// The store checks, in the same transaction and with its own clock, that the job is leased under
/// this very token and that the lease has not run out; otherwise nothing is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fence {
    /// The job the caller works on.
    pub job: crate::id::JobId,
    /// The token of the caller's attempt.
    pub token: i64,
}
