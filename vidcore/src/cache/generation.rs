//! Generations: what tells a value loaded before a change from one loaded after it.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Keys are spread over this many counters; a change also drops what shares its counter.
const STRIPES: usize = 1024;

/// The state of one key's counters. Equal means that nothing was invalidated in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Generation {
    all: u64,
    stripe: u64,
}

/// Which counter a key shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stripe(usize);

/// Counters that only grow, in this process alone; and the last change that concerned each.
#[derive(Debug)]
pub(super) struct Generations {
    all: Counter,
    stripes: Box<[Counter]>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Counter {
    bumps: AtomicU64,
    /// The highest id of a change that concerns it.
    change: AtomicI64,
    /// The highest id of one that it was bumped for: never above `change`.
    bumped_for: AtomicI64,
}

impl Counter {
    fn new() -> Self {
        let [change, bumped_for] = [(); 2].map(|()| AtomicI64::new(i64::MIN));
        Self { bumps: AtomicU64::new(0), change, bumped_for }
    }

    /// Whether it was bumped: a process hears of its own commits twice, and ids follow the order of commits.
    /// So whatever was loaded since a bump for this change or a later one was loaded after this one.
    // Sequentially consistent, so that a caller who was told of a commit sees its bump. In this order: who sees
    // the bump sees what it requires of a shared tier, and who finds its change in `bumped_for` finds it bumped.
    fn bump(&self, change: Option<i64>) -> bool {
        if let Some(change) = change {
            self.change.fetch_max(change, Ordering::SeqCst);
            if self.bumped_for.load(Ordering::SeqCst) >= change {
                return false;
            }
        }
        self.bumps.fetch_add(1, Ordering::SeqCst);
        if let Some(change) = change {
            self.bumped_for.fetch_max(change, Ordering::SeqCst);
        }
        true
    }

    fn bumps(&self) -> u64 {
        self.bumps.load(Ordering::SeqCst)
    }

    fn change(&self) -> i64 {
        self.change.load(Ordering::SeqCst)
    }
}

impl Generations {
    pub(super) fn new() -> Self {
        Self {
            all: Counter::new(),
            stripes: (0..STRIPES).map(|_| Counter::new()).collect(),
            hasher: RandomState::new(),
        }
    }

    /// The counter of `key`, for who asks for it more than once.
    pub(super) fn stripe(&self, key: &str) -> Stripe {
        Stripe(self.hasher.hash_one(key) as usize % STRIPES)
    }

    /// The generation of the keys of `stripe` now.
    pub(super) fn of(&self, stripe: Stripe) -> Generation {
        Generation { all: self.all.bumps(), stripe: self.stripes[stripe.0].bumps() }
    }

    /// The last change that a shared tier must have applied before this process may take from it what
    /// it says of the keys of `stripe`.
    pub(super) fn required(&self, stripe: Stripe) -> i64 {
        self.all.change().max(self.stripes[stripe.0].change())
    }

    /// Makes everything loaded for `key` before the change with that id stale; without one, everything loaded
    /// so far. Whether that was not done before.
    pub(super) fn bump(&self, key: &str, change: Option<i64>) -> bool {
        self.stripes[self.stripe(key).0].bump(change)
    }

    /// The same for every key.
    pub(super) fn bump_all(&self, change: Option<i64>) -> bool {
        self.all.bump(change)
    }
}
