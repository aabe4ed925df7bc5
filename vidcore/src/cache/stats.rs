//! What a cache did, as numbers: a snapshot for programs, metrics for operators.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a cache did since it was made.
///
/// Every call counts as exactly one of `hits`, `negative_hits`, `misses` and `waits`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct CacheStats {
    /// Calls answered with a kept value.
    pub hits: u64,
    /// Calls answered with the knowledge that there is no value.
    pub negative_hits: u64,
    /// Calls that found nothing fresh and set a load going.
    pub misses: u64,
    /// Calls that joined a load already under way.
    pub waits: u64,
    /// Loads that ran.
    pub loads: u64,
    /// Loads that failed or were cut off.
    pub load_errors: u64,
    /// Loaded values not kept, because something was invalidated or hearing was lost meanwhile.
    pub refused_sets: u64,
    /// Calls (among misses and waits) that did not look, for want of proof of hearing changes.
    pub bypasses: u64,
    /// Keys invalidated, and invalidations of everything.
    pub invalidations: u64,
}

/// How a call was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lookup {
    Hit,
    NegativeHit,
    Miss,
    Wait,
}

/// How a load ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LoadOutcome {
    Loaded,
    Failed,
}

/// The counters of one cache; each also feeds a metric labelled with the cache's name.
#[derive(Debug)]
pub(super) struct Counters {
    name: &'static str,
    hits: AtomicU64,
    negative_hits: AtomicU64,
    misses: AtomicU64,
    waits: AtomicU64,
    loads: AtomicU64,
    load_errors: AtomicU64,
    refused_sets: AtomicU64,
    bypasses: AtomicU64,
    invalidations: AtomicU64,
}

impl Counters {
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            hits: AtomicU64::new(0),
            negative_hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            waits: AtomicU64::new(0),
            loads: AtomicU64::new(0),
            load_errors: AtomicU64::new(0),
            refused_sets: AtomicU64::new(0),
            bypasses: AtomicU64::new(0),
            invalidations: AtomicU64::new(0),
        }
    }

    pub(super) fn lookup(&self, lookup: Lookup) {
        let (counter, outcome) = match lookup {
            Lookup::Hit => (&self.hits, "hit"),
            Lookup::NegativeHit => (&self.negative_hits, "negative_hit"),
            Lookup::Miss => (&self.misses, "miss"),
            Lookup::Wait => (&self.waits, "wait"),
        };
        counter.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("vid_cache_lookups_total", "cache" => self.name, "outcome" => outcome).increment(1);
    }

    pub(super) fn load(&self, outcome: LoadOutcome, took: Duration) {
        self.loads.fetch_add(1, Ordering::Relaxed);
        let outcome = match outcome {
            LoadOutcome::Loaded => "loaded",
            LoadOutcome::Failed => {
                self.load_errors.fetch_add(1, Ordering::Relaxed);
                "failed"
            }
        };
        metrics::counter!("vid_cache_loads_total", "cache" => self.name, "outcome" => outcome).increment(1);
        metrics::histogram!("vid_cache_load_seconds", "cache" => self.name).record(took);
    }

    pub(super) fn refused_set(&self) {
        self.refused_sets.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("vid_cache_refused_sets_total", "cache" => self.name).increment(1);
    }

    pub(super) fn bypass(&self) {
        self.bypasses.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("vid_cache_bypasses_total", "cache" => self.name).increment(1);
    }

    pub(super) fn invalidation(&self) {
        self.invalidations.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("vid_cache_invalidations_total", "cache" => self.name).increment(1);
    }

    pub(super) fn snapshot(&self) -> CacheStats {
        CacheStats {
            hits: self.hits.load(Ordering::Relaxed),
            negative_hits: self.negative_hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            waits: self.waits.load(Ordering::Relaxed),
            loads: self.loads.load(Ordering::Relaxed),
            load_errors: self.load_errors.load(Ordering::Relaxed),
            refused_sets: self.refused_sets.load(Ordering::Relaxed),
            bypasses: self.bypasses.load(Ordering::Relaxed),
            invalidations: self.invalidations.load(Ordering::Relaxed),
        }
    }
}
