//! Where budgets are kept: governor's concurrent map, with looks that take nothing and a bound.

use std::cell::Cell;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::keyed::{DashMapStateStore, ShrinkableKeyedStateStore};

use crate::rate_limit::Subject;

/// A budget and what to do with it. Governor has no way to look without taking, but it decides
/// through its state store, and ours leaves the state alone when asked to [`Look`](Intent::Look).
///
/// The store also says through it when the budget is whole: after a taking, else as it is. From that follow
/// all numbers of a decision, and governor's own snapshot would have to be asked again after a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ask {
    own: Holder,
    intent: Intent,
    whole_at: Cell<Option<Nanos>>,
}

/// Whether to change a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Intent {
    /// Take from it.
    Take,
    /// Only say what taking would do.
    Look,
}

/// Whose budget it is; one of 256 that subjects share for which there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Own(Subject),
    Shared(u8),
}

impl Ask {
    pub(super) fn new(subject: Subject, intent: Intent) -> Self {
        Self { own: Holder::Own(subject), intent, whole_at: Cell::new(None) }
    }

    /// When the budget is whole, counted as governor does; `None` if it was never taken from.
    pub(super) fn whole_at(&self) -> Option<Nanos> {
        self.whole_at.get()
    }
}

impl Hash for Ask {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.own.hash(state);
    }
}

impl Hash for Holder {
    /// The kind is left out: a budget has a lot of room for one that it is mistaken for at first sight.
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Own(subject) => subject.hash_value(state),
            Self::Shared(number) => state.write_u8(*number),
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
        let own = Holder::Own(subject);
        let elsewhere = self.elsewhere(&own);
        let holder = elsewhere.as_ref().map_or(&own, |(holder, _)| holder);
        let taken = Nanos::from(taken);
        if self.inner.budgets.contains_key(holder) {
            let given = |state: Option<Nanos>| match state {
                Some(whole_at) => Ok(((), whole_at.saturating_sub(taken))),
                None => Err(()),
            };
            // A budget that nothing was taken from stays as it is.
            let _ = self.inner.budgets.measure_and_replace(holder, given);
        }
    }

    /// Where the budget of `own` is if it was never sure to have one of its own, and what that starts with if
    /// it is new. `None` if it is its own, from nothing.
    fn elsewhere(&self, own: &Holder) -> Option<(Holder, Option<Nanos>)> {
        if !self.inner.was_ever_closed.load(Ordering::Relaxed) || self.inner.budgets.contains_key(own) {
            return None;
        }
        let [number, ..] = self.inner.hasher.hash_one(own).to_le_bytes();
        let shared = Holder::Shared(number);
        Some(if self.inner.is_closed.load(Ordering::Relaxed) { (shared, None) } else { (*own, self.peek(&shared)) })
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
        let elsewhere = self.elsewhere(&ask.own);
        let (holder, start) = elsewhere.as_ref().map_or((&ask.own, None), |(holder, start)| (holder, *start));
        match ask.intent {
            Intent::Take => self.inner.budgets.measure_and_replace(holder, |state| {
                let state = state.or(start);
                let decided = decide(state);
                ask.whole_at.set(decided.as_ref().map_or(state, |(_, whole_at)| Some(*whole_at)));
                decided
            }),
            Intent::Look => {
                let state = self.peek(holder).or(start);
                ask.whole_at.set(state);
                decide(state).map(|(seen, _)| seen)
            }
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
