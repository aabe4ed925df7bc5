//! The read-through: looks, joins a load under way, or loads.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use serde::Serialize;

use crate::cache::flight::{Answer, Flights, Leader, answer_of};
use crate::cache::generation::{Generation, Generations};
use crate::cache::stats::{Counters, LoadOutcome, Lookup};
use crate::cache::{CacheOptions, CacheStats, Cached, Invalidate, LoadError, MAX_SILENCE};
use crate::clock::Clock;
use crate::entropy::{Entropy, EntropyExt};
use crate::notify::Notify;

/// An estimate of what moka and this module keep per entry besides key and value, in bytes.
const ENTRY_OVERHEAD: usize = 256;

/// A cache of `T` by text key, filled by loads that fail with `E`. Clones share one cache.
///
/// # Guarantees
/// * While a value is fresh it is served without a load; there is at most one load per key at a time,
///   and everybody who asks meanwhile shares its result.
/// * Who asks after [`invalidate`](Self::invalidate) returned never gets what was read before it.
/// * Errors are shared by those who waited and never kept.
pub struct ReadThrough<T, E: Error + 'static> {
    inner: Arc<Inner<T, E>>,
}

struct Inner<T, E: Error + 'static> {
    options: CacheOptions,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    notify: Arc<dyn Notify>,
    entries: moka::future::Cache<Arc<str>, Arc<Entry<T>>>,
    flights: Arc<Flights<T, E>>,
    generations: Generations,
    counters: Counters,
}

/// A kept value, or the knowledge that there is none.
struct Entry<T> {
    value: Option<Arc<Cached<T>>>,
    /// Compared at each read: an entry that lost a race against an invalidation is never served.
    generation: Generation,
    /// On the monotonic clock.
    expires_at: Duration,
}

impl<T, E> ReadThrough<T, E>
where
    T: Serialize + Send + Sync + 'static,
    E: Error + Send + Sync + 'static,
{
    /// An empty cache.
    pub fn new(
        options: CacheOptions,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        notify: Arc<dyn Notify>,
    ) -> Self {
        let entries = moka::future::Cache::builder()
            .name(options.name)
            .max_capacity(options.max_bytes)
            .weigher(|key: &Arc<str>, entry: &Arc<Entry<T>>| entry.weight(key))
            .build();
        let (flights, counters) = (Arc::new(Flights::new()), Counters::new(options.name));
        let generations = Generations::new();
        let inner = Inner { options, clock, entropy, notify, entries, flights, generations, counters };
        Self { inner: Arc::new(inner) }
    }

    /// The value of `key`: the kept one while it is fresh, else what `load` finds. `None` if there is
    /// no such thing, which is remembered too, for the negative time to live.
    ///
    /// `load` runs only if nothing fresh is kept and no load of the key is under way. It must not ask
    /// this cache for the same key. Needs a tokio runtime.
    ///
    /// # Errors
    /// The [`LoadError`] of the load this call started or joined.
    ///
    /// # Cancel safety
    /// The load runs in a task of its own: a caller that goes away cancels nothing for the others.
    pub async fn get_or_load<F>(&self, key: &str, load: F) -> Result<Option<Arc<Cached<T>>>, LoadError<E>>
    where
        F: Future<Output = Result<Option<T>, E>> + Send + 'static,
    {
        if self.inner.is_deaf() {
            self.inner.counters.bypass();
        } else if let Some(entry) = self.inner.fresh(key).await {
            let is_negative = entry.value.is_none();
            self.inner.counters.lookup(if is_negative { Lookup::NegativeHit } else { Lookup::Hit });
            return Ok(entry.value.clone());
        }
        let (waiter, leader) = self.inner.flights.join(key, self.inner.generations.of(key));
        match leader {
            None => self.inner.counters.lookup(Lookup::Wait),
            Some(leader) => {
                self.inner.counters.lookup(Lookup::Miss);
                tokio::spawn(Arc::clone(&self.inner).lead(leader, load));
            }
        }
        answer_of(waiter).await
    }

    /// Makes everything known about `key` stale. Does not block.
    pub fn invalidate(&self, key: &str) {
        // The entry itself stays until it is replaced or evicted; its generation keeps it from being
        // served. Removing it would need an async call, and could not reach a value about to be kept.
        self.inner.generations.bump(key);
        self.inner.counters.invalidation();
    }

    /// Makes everything stale. Does not block.
    pub fn invalidate_all(&self) {
        self.inner.generations.bump_all();
        self.inner.entries.invalidate_all();
        self.inner.counters.invalidation();
    }

    /// What it did so far.
    pub fn stats(&self) -> CacheStats {
        self.inner.counters.snapshot()
    }

    /// Bytes its entries take now, as estimated, after outstanding evictions.
    pub async fn weight_bytes(&self) -> u64 {
        self.inner.entries.run_pending_tasks().await;
        self.inner.entries.weighted_size()
    }

    /// Loads under way.
    pub fn loads_under_way(&self) -> usize {
        self.inner.flights.count()
    }

    /// How it was set up.
    pub fn options(&self) -> &CacheOptions {
        &self.inner.options
    }
}

impl<T, E> Invalidate for ReadThrough<T, E>
where
    T: Serialize + Send + Sync + 'static,
    E: Error + Send + Sync + 'static,
{
    fn invalidate(&self, key: &str) {
        Self::invalidate(self, key);
    }

    fn invalidate_all(&self) {
        Self::invalidate_all(self);
    }
}

impl<T, E: Error + 'static> Clone for ReadThrough<T, E> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<T, E: Error + 'static> fmt::Debug for ReadThrough<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadThrough")
            .field("options", &self.inner.options)
            .field("stats", &self.inner.counters.snapshot())
            .finish_non_exhaustive()
    }
}

impl<T, E> Inner<T, E>
where
    T: Serialize + Send + Sync + 'static,
    E: Error + Send + Sync + 'static,
{
    /// Whether this process may have missed changes.
    fn is_deaf(&self) -> bool {
        self.notify.silence() > MAX_SILENCE
    }

    async fn fresh(&self, key: &str) -> Option<Arc<Entry<T>>> {
        let entry = self.entries.get(key).await?;
        let is_fresh = entry.generation == self.generations.of(key) && self.clock.monotonic() < entry.expires_at;
        is_fresh.then_some(entry)
    }

    /// The leader's task: loads, keeps what may be kept, answers everybody.
    async fn lead<F>(self: Arc<Self>, leader: Leader<T, E>, load: F)
    where
        F: Future<Output = Result<Option<T>, E>> + Send + 'static,
    {
        // A load that ended between this caller's look and its turn has left a fresh value behind.
        if !self.is_deaf()
            && let Some(entry) = self.fresh(leader.key()).await
        {
            return leader.finish(Ok(entry.value.clone()));
        }
        let started_at = self.clock.monotonic();
        let answer = build(self.options.name, load).await;
        let outcome = if answer.is_ok() { LoadOutcome::Loaded } else { LoadOutcome::Failed };
        self.counters.load(outcome, self.clock.monotonic().saturating_sub(started_at));
        if let Ok(value) = &answer {
            self.keep(&leader, value.clone(), started_at).await;
        }
        leader.finish(answer);
    }

    async fn keep(&self, leader: &Leader<T, E>, value: Option<Arc<Cached<T>>>, loaded_at: Duration) {
        let generation = leader.generation();
        if self.is_deaf() || generation != self.generations.of(leader.key()) {
            return self.counters.refused_set();
        }
        let ttl = if value.is_some() { self.options.ttl } else { self.options.negative_ttl };
        let expires_at = loaded_at + ttl.mul_f64(0.9 + 0.2 * self.entropy.unit());
        self.entries.insert(Arc::clone(leader.key()), Arc::new(Entry { value, generation, expires_at })).await;
    }
}

impl<T> Entry<T> {
    fn weight(&self, key: &str) -> u32 {
        let value = self.value.as_ref().map_or(0, |value| value.weight());
        u32::try_from(ENTRY_OVERHEAD + key.len() + value).unwrap_or(u32::MAX)
    }
}

/// Runs the load and builds what is shared; a panic in either becomes an answer.
async fn build<T, E, F>(name: &'static str, load: F) -> Answer<T, E>
where
    T: Serialize,
    E: Error + 'static,
    F: Future<Output = Result<Option<T>, E>>,
{
    let built = async { load.await.map(|found| found.map(|value| Arc::new(Cached::new(value)))) };
    // What the load touched when it panicked is dropped with it; nothing of ours was half changed.
    match AssertUnwindSafe(built).catch_unwind().await {
        Ok(answer) => answer.map_err(|error| LoadError::Failed(Arc::new(error))),
        Err(_) => {
            tracing::error!(cache = name, "a load for the cache {name} panicked");
            Err(LoadError::CutOff)
        }
    }
}
