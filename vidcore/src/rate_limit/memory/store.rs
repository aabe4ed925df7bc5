//! Where budgets are kept: governor's concurrent map, with looks that take nothing and a bound.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::keyed::{DashMapStateStore, ShrinkableKeyedStateStore};

use crate::rate_limit::Subject;

/// Budgets shared by the subjects for which there is no room.
const SHARED_BUDGETS: u64 = 256;

/// A budget and what to do with it. Governor has no way to look without taking, but it decides
/// through its state store, and ours leaves the state alone when asked to [`Look`](Intent::Look).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Ask {
    pub(super) subject: Subject,
    pub(super) intent: Intent,
}

/// Whether to change a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Intent {
    /// Take from it.
    Take,
    /// Only say what taking would do.
    Look,
}

/// Whose budget it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Own(Subject),
    Shared(u64),
}

impl Hash for Holder {
    /// The kind is left out: a budget has a lot of room for one that it is mistaken for at first sight.
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Own(subject) => subject.hash(state),
            Self::Shared(number) => state.write_u64(*number),
        }
    }
}

/// Budgets by subject; clones are handles to the same ones.
///
/// While it is closed, subjects without a budget of their own share a few. A subject that gets its
/// own afterwards starts with what its shared one had left, so that no limit is lifted on the way.
#[derive(Debug, Clone, Default)]
pub(super) struct BudgetStore {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    budgets: DashMapStateStore<Holder>,
    hasher: RandomState,
    is_closed: AtomicBool,
    was_ever_closed: AtomicBool,
}

impl BudgetStore {
    /// How many budgets are kept.
    pub(super) fn count(&self) -> usize {
        self.inner.budgets.len()
    }

    /// Whether new subjects have to share.
    pub(super) fn set_closed(&self, is_closed: bool) {
        self.inner.is_closed.store(is_closed, Ordering::Relaxed);
        if is_closed {
            self.inner.was_ever_closed.store(true, Ordering::Relaxed);
        }
    }

    /// Undoes a taking that moved the time at which the budget is whole by `taken`.
    pub(super) fn give_back(&self, subject: Subject, taken: Duration) {
        let (holder, _) = self.find(subject);
        let taken = Nanos::from(taken);
        if self.inner.budgets.contains_key(&holder) {
            let given = |state: Option<Nanos>| match state {
                Some(whole_at) => Ok(((), whole_at.saturating_sub(taken))),
                None => Err(()),
            };
            // A budget that nothing was taken from stays as it is.
            let _ = self.inner.budgets.measure_and_replace(&holder, given);
        }
    }

    /// The budget of `subject`, and what that starts with if it is new.
    fn find(&self, subject: Subject) -> (Holder, Option<Nanos>) {
        let own = Holder::Own(subject);
        if !self.inner.was_ever_closed.load(Ordering::Relaxed) || self.inner.budgets.contains_key(&own) {
            return (own, None);
        }
        let shared = Holder::Shared(self.inner.hasher.hash_one(subject) % SHARED_BUDGETS);
        if self.inner.is_closed.load(Ordering::Relaxed) { (shared, None) } else { (own, self.peek(&shared)) }
    }

    fn peek(&self, holder: &Holder) -> Option<Nanos> {
        // A state store makes an entry for any key it is asked about; a look must not.
        if !self.inner.budgets.contains_key(holder) {
            return None;
        }
        // Refusing inside the store reads the state and leaves it as it is.
        let seen = self.inner.budgets.measure_and_replace(holder, Err::<((), Nanos), _>);
        seen.err().flatten()
    }
}

impl StateStore for BudgetStore {
    type Key = Ask;

    fn measure_and_replace<T, F, E>(&self, ask: &Ask, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        // The start is read before the map is entered: reading it inside would lock the map twice.
        let (holder, start) = self.find(ask.subject);
        match ask.intent {
            Intent::Take => self.inner.budgets.measure_and_replace(&holder, |state| decide(state.or(start))),
            Intent::Look => decide(self.peek(&holder).or(start)).map(|(seen, _)| seen),
        }
    }
}

impl ShrinkableKeyedStateStore<Ask> for BudgetStore {
    fn retain_recent(&self, drop_below: Nanos) {
        ShrinkableKeyedStateStore::retain_recent(&self.inner.budgets, drop_below);
    }

    fn len(&self) -> usize {
        self.count()
    }

    fn is_empty(&self) -> bool {
        self.inner.budgets.is_empty()
    }
}
