//! What a process keeps of one key, and how it ages.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::cache::Cached;
use crate::cache::generation::{Generation, Stripe};
use crate::clock::Timestamp;
use crate::entropy::{Entropy, EntropyExt};

/// An estimate of what moka and this module keep per entry besides key and value, in bytes.
const ENTRY_OVERHEAD: usize = 320;

/// How eager early refreshing is: the beta of XFetch, 1 being the best for exponential gaps.
const BETA: f64 = 1.0;

/// The draw of XFetch exceeds this many load times once in nine million: before, none is made.
const NEVER_BEFORE: u32 = 16;

/// A kept value, or the knowledge that there is none. Times are on the monotonic clock.
pub(super) struct Entry<T> {
    pub(super) value: Option<Arc<Cached<T>>>,
    pub(super) stripe: Stripe,
    /// Compared at each read: an entry that lost a race against an invalidation is never served.
    pub(super) generation: Generation,
    pub(super) life: Life,
    /// From when on this process looks at the shared tier again, in nanoseconds.
    look_again_at_ns: AtomicU64,
    /// Milliseconds before which no refresh is tried, because the last one failed.
    retry_at_ms: AtomicU64,
}

/// When a value is fresh, and for how long it may serve when it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Life {
    /// When its load began, by the wall clock of the process that loaded it.
    pub(super) loaded_at: Timestamp,
    pub(super) fresh_until: Duration,
    pub(super) usable_until: Duration,
    /// How long its load took.
    pub(super) load_time: Duration,
}

/// How old an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freshness {
    Fresh,
    /// Fresh, but its end is near enough that this caller should refresh it.
    DueEarly,
    /// To be served only while it is refreshed or if that fails.
    Stale,
    /// Not to be served.
    Expired,
}

impl Life {
    /// How old it is at `now`, early refreshing left out.
    pub(super) fn freshness(&self, now: Duration) -> Freshness {
        if now < self.fresh_until {
            Freshness::Fresh
        } else if now < self.usable_until {
            Freshness::Stale
        } else {
            Freshness::Expired
        }
    }

    /// Whether to refresh before the end, so that of many callers one does and none waits: "optimal
    /// probabilistic cache stampede prevention" (Vattani, Chierichetti, Lowenstein 2015), XFetch.
    fn is_due_early(&self, now: Duration, entropy: &dyn Entropy) -> bool {
        let left = self.fresh_until.saturating_sub(now);
        if left >= self.load_time.saturating_mul(NEVER_BEFORE) {
            return false;
        }
        // 1 − u is in (0, 1], so that the logarithm is finite.
        let draw = -(1.0 - entropy.unit()).ln();
        self.load_time.mul_f64(BETA * draw) >= left
    }
}

impl<T> Entry<T> {
    pub(super) fn new(
        value: Option<Arc<Cached<T>>>,
        stripe: Stripe,
        generation: Generation,
        life: Life,
        look_again_at: Duration,
    ) -> Self {
        let look_again_at_ns = AtomicU64::new(nanos(look_again_at));
        Self { value, stripe, generation, life, look_again_at_ns, retry_at_ms: AtomicU64::new(0) }
    }

    /// Whether it is served without a look at the shared tier, if its age allows.
    pub(super) fn is_believed(&self, now: Duration) -> bool {
        nanos(now) < self.look_again_at_ns.load(Ordering::Relaxed)
    }

    /// The shared tier still has this very value.
    pub(super) fn believe_until(&self, look_again_at: Duration) {
        self.look_again_at_ns.store(nanos(look_again_at), Ordering::Relaxed);
        self.retry_at_ms.store(0, Ordering::Relaxed);
    }

    /// How old it is at `now`.
    pub(super) fn freshness(&self, now: Duration, entropy: &dyn Entropy) -> Freshness {
        match self.life.freshness(now) {
            // Asked for again rather than believed: the shared tier may hold a newer one.
            Freshness::Fresh | Freshness::Stale if !self.is_believed(now) && self.may_refresh(now) => {
                Freshness::Expired
            }
            Freshness::Fresh if self.life.is_due_early(now, entropy) => Freshness::DueEarly,
            other => other,
        }
    }

    /// Whether a refresh may be tried now.
    pub(super) fn may_refresh(&self, now: Duration) -> bool {
        now.as_millis() >= u128::from(self.retry_at_ms.load(Ordering::Relaxed))
    }

    /// Puts the next refresh off.
    pub(super) fn refresh_failed(&self, retry_at: Duration) {
        let retry_at = u64::try_from(retry_at.as_millis()).unwrap_or(u64::MAX);
        self.retry_at_ms.store(retry_at, Ordering::Relaxed);
    }

    /// The memory it takes, in bytes, as an estimate.
    pub(super) fn weight(&self, key: &str) -> u32 {
        let value = self.value.as_ref().map_or(0, |value| value.weight());
        u32::try_from(ENTRY_OVERHEAD + key.len() + value).unwrap_or(u32::MAX)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
