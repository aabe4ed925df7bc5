//! The caches of one process: from committed changes to those they concern, and what they did.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use serde::Serialize;

use crate::cache::{CacheStats, SharedTier};
use crate::events::Change;
use crate::store::{CommitObserver, Committed};

/// Something that forgets.
///
/// # Contract
/// Neither method blocks. `change` is the id of the committed change that is the reason; ids follow the order
/// of commits. Once a method returned, nobody gets what was read before that change. A second call for it, or
/// one for an earlier change, may find nothing to do. What others have kept may be served again once they
/// have been told of it.
pub trait Invalidate: Send + Sync + 'static {
    /// Makes what is known about `key` stale.
    fn invalidate(&self, key: &str, change: i64);

    /// Makes everything stale.
    fn invalidate_all(&self, change: i64);
}

/// A cache that shows what it did.
#[async_trait]
pub trait Inspect: Send + Sync + 'static {
    /// As of now.
    async fn report(&self) -> CacheReport;
}

/// What one cache of this process holds and did.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CacheReport {
    /// The cache.
    pub name: String,
    /// Whether it has the shared tier behind it.
    pub is_shared: bool,
    /// Entries in the process's memory.
    pub entries: u64,
    /// Bytes they take, as estimated.
    pub size_bytes: u64,
    /// Bytes they may take.
    pub max_bytes: u64,
    /// Share of calls answered from the process's memory, 0 to 1.
    pub hit_ratio: f64,
    /// Share of looks at the shared tier that found a value, 0 to 1.
    pub shared_hit_ratio: f64,
    /// Mean time of a load in microseconds.
    pub mean_load_us: u64,
    /// The counters, since the process started.
    pub stats: CacheStats,
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
pub struct Caches {
    by_topic: RwLock<BTreeMap<String, Vec<Registered>>>,
    shared: Option<SharedTier>,
}

#[derive(Clone)]
struct Registered {
    invalidate: Arc<dyn Invalidate>,
    inspect: Arc<dyn Inspect>,
}

impl Caches {
    /// No caches yet. Where there is a shared tier, it is told when something has changed.
    pub fn new(shared: Option<SharedTier>) -> Self {
        Self { by_topic: RwLock::default(), shared }
    }

    /// From now on a change of `topic` makes its key stale in `cache`, or everything if the key is
    /// [`EVERY_KEY`].
    pub fn register<C: Invalidate + Inspect + Clone>(&self, topic: &str, cache: &C) {
        let mut by_topic = self.by_topic.write().unwrap_or_else(PoisonError::into_inner);
        let registered = Registered { invalidate: Arc::new(cache.clone()), inspect: Arc::new(cache.clone()) };
        by_topic.entry(topic.to_owned()).or_default().push(registered);
    }

    /// The tier that processes share, if there is one.
    pub fn shared(&self) -> Option<&SharedTier> {
        self.shared.as_ref()
    }

    /// Drops what `change` made stale. Does not block; the second time nothing is dropped.
    pub fn apply(&self, change: &Change) {
        let by_topic = self.by_topic.read().unwrap_or_else(PoisonError::into_inner);
        for cache in by_topic.get(&change.topic).into_iter().flatten() {
            match change.key.as_str() {
                EVERY_KEY => cache.invalidate.invalidate_all(change.id),
                key => cache.invalidate.invalidate(key, change.id),
            }
        }
    }

    /// Drops everything from every cache: for a start, or when changes up to the one with this id may
    /// have been missed.
    pub fn drop_all(&self, change: i64) {
        {
            let by_topic = self.by_topic.read().unwrap_or_else(PoisonError::into_inner);
            for cache in by_topic.values().flatten() {
                cache.invalidate.invalidate_all(change);
            }
        }
        self.tell_shared();
    }

    /// What each cache holds and did, by name.
    pub async fn report(&self) -> Vec<CacheReport> {
        let caches: Vec<Registered> = {
            let by_topic = self.by_topic.read().unwrap_or_else(PoisonError::into_inner);
            by_topic.values().flatten().cloned().collect()
        };
        let mut reports = futures_util::future::join_all(caches.iter().map(|cache| cache.inspect.report())).await;
        // Several may go by the changes of one topic.
        reports.sort_by(|a, b| a.name.cmp(&b.name));
        reports
    }

    fn tell_shared(&self) {
        if let Some(shared) = &self.shared {
            shared.changed();
        }
    }
}

impl CommitObserver for Caches {
    fn committed(&self, committed: &Committed) {
        if committed.changes.is_empty() {
            return;
        }
        for change in &committed.changes {
            self.apply(change);
        }
        self.tell_shared();
    }
}

impl fmt::Debug for Caches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by_topic = self.by_topic.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("Caches")
            .field("topics", &by_topic.keys().collect::<Vec<_>>())
            .field("shared", &self.shared)
            .finish()
    }
}
