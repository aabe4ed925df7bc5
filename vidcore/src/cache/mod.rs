//! Cached reads: a typed read-through with one load per key, honest about what changed.
//!
//! A [`ReadThrough`] keeps values next to their JSON, ready to be served. What a committed command
//! made stale is dropped through the [`Invalidator`] before that command is answered; what other
//! processes changed, as soon as this one hears of it; anything else after its time to live. Nothing
//! private belongs here: a key must say everything its value depends on, visibility included.
//!
//! This tier is the process's own memory.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

mod cached;
mod flight;
mod generation;
pub mod invalidator;
pub mod read_through;
pub mod stats;

pub use cached::Cached;
pub use invalidator::{EVERY_KEY, Invalidate, Invalidator};
pub use read_through::ReadThrough;
pub use stats::CacheStats;

/// How long this process may be without proof that it hears of changes before cached values are
/// neither served nor stored.
pub const MAX_SILENCE: Duration = Duration::from_secs(1);

/// What one cache keeps, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheOptions {
    /// Its name in metrics: the topic of the changes that concern it.
    pub name: &'static str,
    /// Bytes its entries may take together, as estimated from their JSON.
    pub max_bytes: u64,
    /// How long a value is served, counted from the start of its load; each entry draws its own time
    /// from ±10 % of it, so that what was loaded together does not expire together. Zero keeps nothing.
    pub ttl: Duration,
    /// The same for the knowledge that there is no value.
    pub negative_ttl: Duration,
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
