//! From committed changes to the caches they concern.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use crate::events::Change;
use crate::store::{CommitObserver, Committed};

/// Something that forgets.
///
/// # Contract
/// Neither method blocks. Once one returned, nobody gets what was read before it was called.
pub trait Invalidate: Send + Sync + 'static {
    /// Makes what is known about `key` stale.
    fn invalidate(&self, key: &str);

    /// Makes everything stale.
    fn invalidate_all(&self);
}

/// The key of a change that makes a whole cache stale: for lists, where one item may stand on every
/// page. No entry has it.
pub const EVERY_KEY: &str = "*";

/// The caches of one process, by the topic of the changes that concern them.
///
/// As a [`CommitObserver`] it acts on this process's own commits before they are answered; what
/// other processes committed is passed to it by whoever reads their changes. Changes of topics
/// without a cache are ignored.
#[derive(Default)]
pub struct Invalidator {
    by_topic: RwLock<HashMap<String, Vec<Arc<dyn Invalidate>>>>,
}

impl Invalidator {
    /// No caches yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on a change of `topic` makes its key stale in `cache`, or everything if the key is
    /// [`EVERY_KEY`].
    pub fn register(&self, topic: &str, cache: Arc<dyn Invalidate>) {
        let mut by_topic = self.by_topic.write().unwrap_or_else(PoisonError::into_inner);
        by_topic.entry(topic.to_owned()).or_default().push(cache);
    }

    /// Drops what `change` made stale. Does not block; doing so twice is harmless.
    pub fn apply(&self, change: &Change) {
        let by_topic = self.by_topic.read().unwrap_or_else(PoisonError::into_inner);
        for cache in by_topic.get(&change.topic).into_iter().flatten() {
            match change.key.as_str() {
                EVERY_KEY => cache.invalidate_all(),
                key => cache.invalidate(key),
            }
        }
    }

    /// Drops everything from every cache: for a start, or when changes may have been missed.
    pub fn drop_all(&self) {
        let by_topic = self.by_topic.read().unwrap_or_else(PoisonError::into_inner);
        for cache in by_topic.values().flatten() {
            cache.invalidate_all();
        }
    }
}

impl CommitObserver for Invalidator {
    fn committed(&self, committed: &Committed) {
        for change in &committed.changes {
            self.apply(change);
        }
    }
}

impl fmt::Debug for Invalidator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by_topic = self.by_topic.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("Invalidator").field("topics", &by_topic.keys().collect::<Vec<_>>()).finish()
    }
}
