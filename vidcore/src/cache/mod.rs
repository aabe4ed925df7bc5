//! Cached reads: a typed read-through with one load per key, honest about what changed.
//!
//! A [`ReadThrough`] keeps values next to their JSON, ready to be served: in the process's own memory,
//! and, where the options say so, in a [tier](CacheTier) that processes share. What a committed command
//! made stale is dropped through [`Caches`] before that command is answered; what other processes
//! changed, as soon as this one hears of it; anything else after its time to live. Nothing private
//! belongs here: a key must say everything its value depends on, visibility included.
//!
//! # How stale a value can be
//! By a change: not at all in the process that committed it; elsewhere until the change is heard of, some
//! 25 ms with SQLite, and at most [`MAX_SILENCE`] where hearing fails, after which nothing cached is
//! served. A shared tier that was not yet told of a change is not believed by who knows of it; who does
//! not, hears of it within the same time. By time: as the options say.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::entropy::Entropy;
use crate::notify::Notify;

mod cached;
mod entry;
mod flight;
mod generation;
mod leader;
pub mod read_through;
pub mod registry;
pub mod shared;
pub mod stats;
pub mod tier;
mod wire;

pub use cached::Cached;
pub use read_through::ReadThrough;
pub use registry::{CacheReport, Caches, EVERY_KEY, Inspect, Invalidate};
pub use shared::SharedTier;
pub use stats::CacheStats;
#[cfg(feature = "redis")]
pub use tier::RedisCache;
pub use tier::{CacheTier, MemoryCache};

/// How long this process may be without proof that it hears of changes before cached values are
/// neither served nor stored.
pub const MAX_SILENCE: Duration = Duration::from_secs(1);

/// How long one process has the duty to load a key for all. A load that takes longer may run twice.
pub const LEASE: Duration = Duration::from_secs(1);

/// How long a process serves what it has in memory before it looks at the shared tier again, ±10 %.
pub const MAX_AGE_IN_PROCESS: Duration = Duration::from_secs(5);

/// What one cache keeps, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheOptions {
    /// Its name in metrics and in the shared tier: the topic of the changes that concern it.
    pub name: &'static str,
    /// Bytes its entries may take in the process's memory, as estimated from their JSON.
    pub max_bytes: u64,
    /// How long a value is fresh, counted from the start of its load; each entry draws its own time
    /// from ±10 % of it, so that what was loaded together does not expire together. Zero keeps nothing.
    pub ttl: Duration,
    /// How much longer it may be served while it is refreshed, or if that fails.
    pub stale: Duration,
    /// How long the knowledge that there is no value is fresh. It is never served longer.
    pub negative_ttl: Duration,
}

/// What a cache goes by.
#[derive(Debug, Clone)]
pub struct CacheParts {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Begins the sequence of draws of times to live and of early refreshes; tells holders of leases apart.
    pub entropy: Arc<dyn Entropy>,
    /// Proof that changes are heard of.
    pub notify: Arc<dyn Notify>,
    /// The tier behind the process's memory, if the cache is to have one.
    pub shared: Option<SharedTier>,
}

/// Why a value could not be had. All callers who waited for one load share its error.
#[derive(Debug, thiserror::Error)]
pub enum LoadError<E: Error + 'static> {
    /// The load itself failed. Nothing is cached; the next call loads again.
    #[error("load failed")]
    Failed(#[source] Arc<E>),
    /// The load panicked or its runtime shut down; the next call loads again.
    #[error("load was cut off")]
    CutOff,
}

impl<E: Error + 'static> Clone for LoadError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Failed(error) => Self::Failed(Arc::clone(error)),
            Self::CutOff => Self::CutOff,
        }
    }
}
