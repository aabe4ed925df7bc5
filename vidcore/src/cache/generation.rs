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
    /// The highest id of a change that bumped it.
    change: AtomicI64,
}

impl Counter {
    fn new() -> Self {
        Self { bumps: AtomicU64::new(0), change: AtomicI64::new(i64::MIN) }
    }

    // Sequentially consistent, so that a caller who was told of a commit sees its bump.
    fn bump(&self, change: Option<i64>) {
        if let Some(change) = change {
            self.change.fetch_max(change, Ordering::SeqCst);
        }
        self.bumps.fetch_add(1, Ordering::SeqCst);
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

    /// Makes everything loaded for `key` so far stale, because of the change with that id, if any.
    pub(super) fn bump(&self, key: &str, change: Option<i64>) {
        self.stripes[self.stripe(key).0].bump(change);
    }

    /// Makes everything stale.
    pub(super) fn bump_all(&self, change: Option<i64>) {
        self.all.bump(change);
    }
}
