//! What a cache did, as numbers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a cache did since it was made, in this process.
///
/// Every call counts as exactly one of `hits`, `negative_hits`, `stale_hits`, `misses` and `waits`; every
/// miss and refresh of a cache with a shared tier as exactly one of `shared_hits`, `shared_stale_hits`,
/// `shared_misses`, `shared_waits`, `shared_behind` and `tier_errors`, unless the value has come meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CacheStats {
    /// Calls answered with a fresh value from the process's memory.
    pub hits: u64,
    /// Calls answered from there with the knowledge that there is no value.
    pub negative_hits: u64,
    /// Calls answered from there with a value past its time, while it was refreshed.
    pub stale_hits: u64,
    /// Calls that found nothing to be served and set a load going.
    pub misses: u64,
    /// Calls that joined a load already under way.
    pub waits: u64,
    /// Refreshes set going by calls that were answered with what there was.
    pub refreshes: u64,
    /// Those among them that came before the end of a value's time (XFetch).
    pub early_refreshes: u64,
    /// Values taken from the shared tier.
    pub shared_hits: u64,
    /// The same, past their time.
    pub shared_stale_hits: u64,
    /// Looks at the shared tier that found nothing and got the lease.
    pub shared_misses: u64,
    /// Looks that found nothing, and another process loading.
    pub shared_waits: u64,
    /// Looks whose answer might have been older than a change known here.
    pub shared_behind: u64,
    /// Entries of the shared tier that could not be read.
    pub shared_unreadable: u64,
    /// Loaded values that the shared tier did not take, because something changed meanwhile.
    pub shared_refused: u64,
    /// Calls of the shared tier that failed.
    pub tier_errors: u64,
    /// Loads that ran.
    pub loads: u64,
    /// Loads that failed or were cut off.
    pub load_errors: u64,
    /// Time loads took together, in microseconds.
    pub load_us: u64,
    /// Failed loads in whose place an older value was served.
    pub stale_on_error: u64,
    /// Loaded values not kept, because something was invalidated or hearing was lost meanwhile.
    pub refused_sets: u64,
    /// Calls that did not look, for want of proof of hearing changes.
    pub bypasses: u64,
    /// Keys invalidated, and invalidations of everything.
    pub invalidations: u64,
}

impl CacheStats {
    /// Calls of any kind.
    pub fn calls(&self) -> u64 {
        self.hits + self.negative_hits + self.stale_hits + self.misses + self.waits
    }

    /// The share of calls answered from the process's memory; 0 without any calls.
    pub fn hit_ratio(&self) -> f64 {
        ratio(self.hits + self.negative_hits + self.stale_hits, self.calls())
    }

    /// The share of looks at the shared tier that found a value; 0 without any.
    pub fn shared_hit_ratio(&self) -> f64 {
        let found = self.shared_hits + self.shared_stale_hits;
        let others = self.shared_misses + self.shared_waits + self.shared_behind + self.tier_errors;
        ratio(found, found + others)
    }

    /// Every counter with its name in metrics and the labels that tell it from others of that name.
    pub fn counters(&self) -> [(&'static str, &'static str, u64); 22] {
        [
            ("vid_cache_lookups_total", "hit", self.hits),
            ("vid_cache_lookups_total", "negative_hit", self.negative_hits),
            ("vid_cache_lookups_total", "stale_hit", self.stale_hits),
            ("vid_cache_lookups_total", "miss", self.misses),
            ("vid_cache_lookups_total", "wait", self.waits),
            ("vid_cache_shared_lookups_total", "hit", self.shared_hits),
            ("vid_cache_shared_lookups_total", "stale_hit", self.shared_stale_hits),
            ("vid_cache_shared_lookups_total", "miss", self.shared_misses),
            ("vid_cache_shared_lookups_total", "wait", self.shared_waits),
            ("vid_cache_shared_lookups_total", "behind", self.shared_behind),
            ("vid_cache_shared_lookups_total", "unreadable", self.shared_unreadable),
            ("vid_cache_shared_lookups_total", "error", self.tier_errors),
            ("vid_cache_refreshes_total", "due", self.refreshes - self.early_refreshes.min(self.refreshes)),
            ("vid_cache_refreshes_total", "early", self.early_refreshes),
            ("vid_cache_loads_total", "loaded", self.loads - self.load_errors.min(self.loads)),
            ("vid_cache_loads_total", "failed", self.load_errors),
            ("vid_cache_stale_on_error_total", "", self.stale_on_error),
            ("vid_cache_refused_sets_total", "process", self.refused_sets),
            ("vid_cache_refused_sets_total", "shared", self.shared_refused),
            ("vid_cache_bypasses_total", "", self.bypasses),
            ("vid_cache_invalidations_total", "", self.invalidations),
            ("vid_cache_load_us_total", "", self.load_us),
        ]
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// How a call was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lookup {
    Hit,
    NegativeHit,
    StaleHit,
    Miss,
    Wait,
}

/// What came of a look at the shared tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SharedLookup {
    Hit,
    StaleHit,
    Miss,
    Wait,
    Behind,
    Unreadable,
}

/// How a load ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LoadOutcome {
    Loaded,
    Failed,
}

/// The counters of one cache. They become metrics from time to time rather than at each call, which
/// would cost as much as the call.
#[derive(Debug)]
pub(super) struct Counters {
    name: &'static str,
    hits: AtomicU64,
    negative_hits: AtomicU64,
    stale_hits: AtomicU64,
    misses: AtomicU64,
    waits: AtomicU64,
    refreshes: AtomicU64,
    early_refreshes: AtomicU64,
    shared_hits: AtomicU64,
    shared_stale_hits: AtomicU64,
    shared_misses: AtomicU64,
    shared_waits: AtomicU64,
    shared_behind: AtomicU64,
    shared_unreadable: AtomicU64,
    shared_refused: AtomicU64,
    tier_errors: AtomicU64,
    loads: AtomicU64,
    load_errors: AtomicU64,
    load_us: AtomicU64,
    stale_on_error: AtomicU64,
    refused_sets: AtomicU64,
    bypasses: AtomicU64,
    invalidations: AtomicU64,
}

impl Counters {
    pub(super) fn new(name: &'static str) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            name,
            hits: zero(),
            negative_hits: zero(),
            stale_hits: zero(),
            misses: zero(),
            waits: zero(),
            refreshes: zero(),
            early_refreshes: zero(),
            shared_hits: zero(),
            shared_stale_hits: zero(),
            shared_misses: zero(),
            shared_waits: zero(),
            shared_behind: zero(),
            shared_unreadable: zero(),
            shared_refused: zero(),
            tier_errors: zero(),
            loads: zero(),
            load_errors: zero(),
            load_us: zero(),
            stale_on_error: zero(),
            refused_sets: zero(),
            bypasses: zero(),
            invalidations: zero(),
        }
    }

    pub(super) fn lookup(&self, lookup: Lookup) {
        one(match lookup {
            Lookup::Hit => &self.hits,
            Lookup::NegativeHit => &self.negative_hits,
            Lookup::StaleHit => &self.stale_hits,
            Lookup::Miss => &self.misses,
            Lookup::Wait => &self.waits,
        });
    }

    pub(super) fn shared(&self, lookup: SharedLookup) {
        one(match lookup {
            SharedLookup::Hit => &self.shared_hits,
            SharedLookup::StaleHit => &self.shared_stale_hits,
            SharedLookup::Miss => &self.shared_misses,
            SharedLookup::Wait => &self.shared_waits,
            SharedLookup::Behind => &self.shared_behind,
            SharedLookup::Unreadable => &self.shared_unreadable,
        });
    }

    pub(super) fn refresh(&self, is_early: bool) {
        one(&self.refreshes);
        if is_early {
            one(&self.early_refreshes);
        }
    }

    pub(super) fn load(&self, outcome: LoadOutcome, took: Duration) {
        one(&self.loads);
        if outcome == LoadOutcome::Failed {
            one(&self.load_errors);
        }
        self.load_us.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        metrics::histogram!("vid_cache_load_seconds", "cache" => self.name).record(took);
    }

    pub(super) fn tier_error(&self) {
        one(&self.tier_errors);
    }

    pub(super) fn stale_on_error(&self) {
        one(&self.stale_on_error);
    }

    pub(super) fn refused_set(&self) {
        one(&self.refused_sets);
    }

    pub(super) fn shared_refused(&self) {
        one(&self.shared_refused);
    }

    pub(super) fn bypass(&self) {
        one(&self.bypasses);
    }

    pub(super) fn invalidation(&self) {
        one(&self.invalidations);
    }

    pub(super) fn snapshot(&self) -> CacheStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CacheStats {
            hits: read(&self.hits),
            negative_hits: read(&self.negative_hits),
            stale_hits: read(&self.stale_hits),
            misses: read(&self.misses),
            waits: read(&self.waits),
            refreshes: read(&self.refreshes),
            early_refreshes: read(&self.early_refreshes),
            shared_hits: read(&self.shared_hits),
            shared_stale_hits: read(&self.shared_stale_hits),
            shared_misses: read(&self.shared_misses),
            shared_waits: read(&self.shared_waits),
            shared_behind: read(&self.shared_behind),
            shared_unreadable: read(&self.shared_unreadable),
            shared_refused: read(&self.shared_refused),
            tier_errors: read(&self.tier_errors),
            loads: read(&self.loads),
            load_errors: read(&self.load_errors),
            load_us: read(&self.load_us),
            stale_on_error: read(&self.stale_on_error),
            refused_sets: read(&self.refused_sets),
            bypasses: read(&self.bypasses),
            invalidations: read(&self.invalidations),
        }
    }
}

fn one(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
