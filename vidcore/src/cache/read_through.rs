//! The read-through: looks, joins a load under way, or loads.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cache::entry::{Entry, Freshness};
use crate::cache::flight::Flights;
use crate::cache::generation::{Generation, Generations, Stripe};
use crate::cache::leader::Glance;
use crate::cache::stats::{Counters, Lookup};
use crate::cache::{
    CacheOptions, CacheParts, CacheReport, CacheStats, Cached, Inspect, Invalidate, LoadError, MAX_SILENCE,
};
use crate::entropy::{EntropyExt, SeededEntropy};

/// A cache of `T` by text key, filled by loads that fail with `E`. Clones share one cache.
///
/// # Guarantees
/// * While a value is fresh it is served without a load; there is at most one load per key at a time,
///   and everybody who asks meanwhile shares its result. With a shared tier that holds for all
///   processes together, as long as a load takes less than [`LEASE`](crate::cache::LEASE).
/// * A value past its time is served while one caller's load refreshes it, or if that fails, but never
///   longer than the options allow.
/// * Who asks after [`invalidate`](Self::invalidate) returned never gets what this process read before it.
/// * Errors are shared by those who waited and never kept. Trouble with the shared tier is no error.
pub struct ReadThrough<T, E: Error + 'static> {
    pub(super) inner: Arc<Inner<T, E>>,
}

pub(super) struct Inner<T, E: Error + 'static> {
    pub(super) options: CacheOptions,
    pub(super) parts: CacheParts,
    /// From here come the draws of each read: the system's generator takes a microsecond for one.
    draws: SeededEntropy,
    pub(super) entries: moka::future::Cache<Arc<str>, Arc<Entry<T>>>,
    pub(super) flights: Arc<Flights<T, E>>,
    pub(super) generations: Generations,
    pub(super) counters: Counters,
}

impl<T, E> ReadThrough<T, E>
where
    T: Serialize + DeserializeOwned + Send + Sync + 'static,
    E: Error + Send + Sync + 'static,
{
    /// An empty cache. Its figures go to the metrics recorder that is installed now.
    pub fn new(options: CacheOptions, parts: CacheParts) -> Self {
        let entries = moka::future::Cache::builder()
            .name(options.name)
            .max_capacity(options.max_bytes)
            .weigher(|key: &Arc<str>, entry: &Arc<Entry<T>>| entry.weight(key))
            .build();
        if let Some(shared) = &parts.shared {
            shared.register(options.name);
        }
        let (flights, counters) = (Arc::new(Flights::new()), Counters::new(options.name));
        let generations = Generations::new();
        let draws = SeededEntropy::new(u64::from_le_bytes(parts.entropy.bytes()));
        Self { inner: Arc::new(Inner { options, parts, draws, entries, flights, generations, counters }) }
    }

    /// The value of `key`: the kept one while it may be served, else what `load` finds. `None` if there
    /// is no such thing, which is remembered too, for the negative time to live.
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
        let inner = &self.inner;
        let is_deaf = inner.is_deaf();
        let mut known = None;
        if is_deaf {
            inner.counters.bypass();
        } else if let Some(entry) = inner.kept(key).await {
            let now = inner.parts.clock.monotonic();
            match entry.freshness(now, &inner.draws) {
                Freshness::Expired => known = Some(entry),
                freshness => {
                    if freshness != Freshness::Fresh && entry.may_refresh(now) {
                        inner.refresh(key, &entry, freshness, load);
                    }
                    inner.counters.lookup(match (freshness, &entry.value) {
                        (Freshness::Stale, _) => Lookup::StaleHit,
                        (_, Some(_)) => Lookup::Hit,
                        (_, None) => Lookup::NegativeHit,
                    });
                    return Ok(entry.value.clone());
                }
            }
        }
        let mut load = Some(load);
        let mut is_counted = false;
        loop {
            let stripe = inner.generations.stripe(key);
            let (waiter, leader) = inner.flights.join(key, stripe, inner.generations.of(stripe));
            let led = leader.and_then(|leader| Some((leader, load.take()?)));
            let is_leader = led.is_some();
            if !std::mem::replace(&mut is_counted, true) {
                inner.counters.lookup(if is_leader { Lookup::Miss } else { Lookup::Wait });
            }
            // Who does not hear of changes takes nothing that was known before it joined.
            let asked_at = (!is_deaf || is_leader).then(|| inner.parts.clock.monotonic());
            if let Some((leader, load)) = led {
                // Most of what is not here is there: a task of its own would cost more than the look. Should
                // this caller go away meanwhile, one of those who wait takes its place.
                let glance = inner.glance(&leader, known.take()).await;
                if let Glance::Fresh(value) = glance {
                    drop(waiter);
                    leader.finish(Ok(value.clone()));
                    return Ok(value);
                }
                tokio::spawn(Arc::clone(inner).lead(leader, glance, load));
            }
            match waiter.answer(asked_at).await {
                Some(answer) => return answer,
                None if is_leader => return Err(LoadError::CutOff),
                // What it joined ended in something that it may not have.
                None => {}
            }
        }
    }

    /// Makes everything that this process knows about `key` stale. Does not block.
    ///
    /// The shared tier goes by committed changes alone: what is to be forgotten everywhere is a change
    /// of this cache's name, written with what it is about.
    pub fn invalidate(&self, key: &str) {
        self.forget(key, None);
    }

    /// Makes everything that this process knows stale. Does not block.
    pub fn invalidate_all(&self) {
        self.forget_all(None);
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

    fn forget(&self, key: &str, change: Option<i64>) {
        // The entry itself stays until it is replaced or evicted; its generation keeps it from being
        // served. Removing it would need an async call, and could not reach a value about to be kept.
        if self.inner.generations.bump(key, change) {
            self.inner.counters.invalidation();
        }
    }

    fn forget_all(&self, change: Option<i64>) {
        if self.inner.generations.bump_all(change) {
            self.inner.entries.invalidate_all();
            self.inner.counters.invalidation();
        }
    }
}

impl<T, E> Invalidate for ReadThrough<T, E>
where
    T: Serialize + DeserializeOwned + Send + Sync + 'static,
    E: Error + Send + Sync + 'static,
{
    fn invalidate(&self, key: &str, change: i64) {
        self.forget(key, Some(change));
    }

    fn invalidate_all(&self, change: i64) {
        self.forget_all(Some(change));
    }
}

#[async_trait]
impl<T, E> Inspect for ReadThrough<T, E>
where
    T: Serialize + DeserializeOwned + Send + Sync + 'static,
    E: Error + Send + Sync + 'static,
{
    async fn report(&self) -> CacheReport {
        let (size_bytes, stats) = (self.weight_bytes().await, self.stats());
        CacheReport {
            name: self.inner.options.name.to_owned(),
            is_shared: self.inner.parts.shared.is_some(),
            entries: self.inner.entries.entry_count(),
            size_bytes,
            max_bytes: self.inner.options.max_bytes,
            hit_ratio: stats.hit_ratio(),
            shared_hit_ratio: stats.shared_hit_ratio(),
            mean_load_us: stats.load_us.checked_div(stats.loads).unwrap_or(0),
            stats,
        }
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
    T: Serialize + DeserializeOwned + Send + Sync + 'static,
    E: Error + Send + Sync + 'static,
{
    /// Whether this process may have missed changes.
    pub(super) fn is_deaf(&self) -> bool {
        self.parts.notify.silence() > MAX_SILENCE
    }

    /// What is kept of `key` and was read after its last invalidation, however old.
    pub(super) async fn kept(&self, key: &str) -> Option<Arc<Entry<T>>> {
        let entry = self.entries.get(key).await?;
        self.is_current(entry.stripe, entry.generation).then_some(entry)
    }

    pub(super) fn is_current(&self, stripe: Stripe, generation: Generation) -> bool {
        generation == self.generations.of(stripe)
    }

    /// Loads anew in the background, unless somebody does already.
    fn refresh<F>(self: &Arc<Self>, key: &str, entry: &Entry<T>, freshness: Freshness, load: F)
    where
        F: Future<Output = Result<Option<T>, E>> + Send + 'static,
    {
        let (_, leader) = self.flights.join(key, entry.stripe, entry.generation);
        let Some(leader) = leader else { return };
        self.counters.refresh(freshness == Freshness::DueEarly);
        leader.answer(Ok(entry.value.clone()), entry.life.usable_until);
        tokio::spawn(Arc::clone(self).refresh_in_background(leader, Some(entry.life.loaded_at), load));
    }

    /// `duration` ± 10 %.
    pub(super) fn jitter(&self, duration: Duration) -> Duration {
        duration.mul_f64(0.9 + 0.2 * self.draws.unit())
    }

    /// When this process looks at the shared tier again.
    pub(super) fn look_again_at(&self, now: Duration) -> Duration {
        match self.parts.shared {
            Some(_) => now + self.jitter(crate::cache::MAX_AGE_IN_PROCESS),
            None => Duration::MAX,
        }
    }
}
