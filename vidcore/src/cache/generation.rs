//! Generations: what tells a value loaded before a change from one loaded after it.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};

/// Keys are spread over this many counters; a change also drops what shares its counter.
const STRIPES: usize = 1024;

/// The state of one key's counters. Equal means that nothing was invalidated in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Generation {
    all: u64,
    stripe: u64,
}

/// Counters that only grow, in this process alone.
#[derive(Debug)]
pub(super) struct Generations {
    all: AtomicU64,
    stripes: Box<[AtomicU64]>,
    hasher: RandomState,
}

impl Generations {
    pub(super) fn new() -> Self {
        Self {
            all: AtomicU64::new(0),
            stripes: (0..STRIPES).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
        }
    }

    /// The generation of `key` now.
    pub(super) fn of(&self, key: &str) -> Generation {
        // Sequentially consistent, so that a caller who was told of a commit sees its bump.
        Generation { all: self.all.load(Ordering::SeqCst), stripe: self.stripe(key).load(Ordering::SeqCst) }
    }

    /// Makes everything loaded for `key` so far stale.
    pub(super) fn bump(&self, key: &str) {
        self.stripe(key).fetch_add(1, Ordering::SeqCst);
    }

    /// Makes everything stale.
    pub(super) fn bump_all(&self) {
        self.all.fetch_add(1, Ordering::SeqCst);
    }

    fn stripe(&self, key: &str) -> &AtomicU64 {
        &self.stripes[self.hasher.hash_one(key) as usize % STRIPES]
    }
}
