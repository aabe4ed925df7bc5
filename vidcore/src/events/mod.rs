//! Invalidations as rows: what a command made stale, in commit order.
//!
//! A change names a topic (the cache it concerns) and a key in it. The committing process acts on
//! it before it answers; every other process reads the tail of the table.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::store::StoreError;

#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;

/// A cached copy that becomes stale with the command that names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NewChange {
    /// Which cache, for example [`crate::catalog::VIDEO_PAGES`].
    pub topic: String,
    /// Which entry of it.
    pub key: String,
}

impl NewChange {
    /// The entry `key` of the cache `topic`.
    pub fn new(topic: &str, key: impl Into<String>) -> Self {
        Self { topic: topic.to_owned(), key: key.into() }
    }
}

/// A committed change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Grows with every commit; never reused.
    pub id: i64,
    /// Which cache.
    pub topic: String,
    /// Which entry of it.
    pub key: String,
}

/// Which changes there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeBounds {
    /// The lowest id that is still there, or the next to be handed out when none is.
    pub first_kept: i64,
    /// The highest id ever handed out, whether or not it is still there; 0 before the first.
    pub last: i64,
}

/// Reads the invalidations that other processes wrote.
///
/// # Contract
/// Ids follow the order of commits without gaps, but for those that were pruned.
#[async_trait]
pub trait EventStore: Send + Sync {
    /// Which changes there are now.
    async fn change_bounds(&self) -> Result<ChangeBounds, StoreError>;

    /// Up to `limit` changes with an id above `after`, oldest first.
    async fn changes_after(&self, after: i64, limit: u16) -> Result<Vec<Change>, StoreError>;

    /// Deletes up to `limit` changes written before `before`, oldest first, and returns how many went.
    async fn prune_changes(&self, before: Timestamp, limit: u16) -> Result<u64, StoreError>;
}
