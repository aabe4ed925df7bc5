//! Loads under way: at most one per key and generation, and everybody who waits for it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::cache::generation::{Generation, Stripe};
use crate::cache::{Cached, LoadError};

/// What a load ends with.
pub(super) type Answer<T, E> = Result<Option<Arc<Cached<T>>>, LoadError<E>>;

/// An answer that those who wait may have.
#[derive(Debug)]
struct Given<T, E: Error + 'static> {
    answer: Answer<T, E>,
    /// What there is until the load ends may be had as long as this; the end of the load always.
    usable_until: Option<Duration>,
}

/// What becomes of a load.
#[derive(Debug)]
struct Outcome<T, E: Error + 'static> {
    state: Mutex<State<T, E>>,
    changed: Notify,
}

#[derive(Debug)]
struct State<T, E: Error + 'static> {
    given: Option<Given<T, E>>,
    has_ended: bool,
}

/// Hears a load's answer.
#[derive(Debug)]
pub(super) struct Waiter<T, E: Error + 'static> {
    outcome: Arc<Outcome<T, E>>,
}

/// The loads under way, by key.
#[derive(Debug)]
pub(super) struct Flights<T, E: Error + 'static> {
    by_key: Mutex<HashMap<Arc<str>, Flight<T, E>>>,
}

#[derive(Debug)]
struct Flight<T, E: Error + 'static> {
    generation: Generation,
    outcome: Arc<Outcome<T, E>>,
}

/// The duty to load one key. Dropped without an answer, it tells the waiters that nothing comes.
#[derive(Debug)]
pub(super) struct Leader<T, E: Error + 'static> {
    flights: Arc<Flights<T, E>>,
    key: Arc<str>,
    stripe: Stripe,
    generation: Generation,
    outcome: Arc<Outcome<T, E>>,
    has_finished: bool,
}

impl<T, E: Error + 'static> Flights<T, E> {
    pub(super) fn new() -> Self {
        Self { by_key: Mutex::new(HashMap::new()) }
    }

    /// Waits for the load of `key` that is under way in this generation, or becomes the one to do it.
    ///
    /// A load of an older generation is left to those who already wait for it: who comes after an
    /// invalidation must not get what was read before it.
    pub(super) fn join(
        self: &Arc<Self>,
        key: &str,
        stripe: Stripe,
        generation: Generation,
    ) -> (Waiter<T, E>, Option<Leader<T, E>>) {
        let mut by_key = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = by_key.get(key).filter(|flight| flight.generation == generation) {
            return (Waiter { outcome: Arc::clone(&flight.outcome) }, None);
        }
        let outcome = Arc::new(Outcome::new());
        let key: Arc<str> = key.into();
        by_key.insert(Arc::clone(&key), Flight { generation, outcome: Arc::clone(&outcome) });
        let (waiter, flights) = (Waiter { outcome: Arc::clone(&outcome) }, Arc::clone(self));
        (waiter, Some(Leader { flights, key, stripe, generation, outcome, has_finished: false }))
    }

    /// How many loads are under way, not counting those that an invalidation overtook.
    pub(super) fn count(&self) -> usize {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl<T, E: Error + 'static> Leader<T, E> {
    pub(super) fn key(&self) -> &Arc<str> {
        &self.key
    }

    pub(super) fn stripe(&self) -> Stripe {
        self.stripe
    }

    pub(super) fn generation(&self) -> Generation {
        self.generation
    }

    /// Whether who asks at `now` is answered without the end of the load.
    pub(super) fn is_answered(&self, now: Duration) -> bool {
        self.outcome.state().given.as_ref().is_some_and(|given| given.may_be_had(Some(now)))
    }

    /// Answers everybody who waits, now and until the load ends, which goes on: but not who asks when the
    /// answer's last time has come.
    pub(super) fn answer(&self, answer: Answer<T, E>, usable_until: Duration) {
        self.outcome.state().given = Some(Given { answer, usable_until: Some(usable_until) });
        self.outcome.changed.notify_waiters();
    }

    /// Answers everybody who waits, and ends the load.
    pub(super) fn finish(mut self, answer: Answer<T, E>) {
        self.end(Some(Given { answer, usable_until: None }));
    }

    fn end(&mut self, given: Option<Given<T, E>>) {
        if std::mem::replace(&mut self.has_finished, true) {
            return;
        }
        // Off the list first: who was told of a failure and tries again must start a new load.
        self.leave();
        // Nobody can come to wait any more, so that nothing is lost where nobody does.
        if Arc::strong_count(&self.outcome) == 1 {
            return;
        }
        let mut state = self.outcome.state();
        state.has_ended = true;
        if given.is_some() {
            state.given = given;
        }
        drop(state);
        self.outcome.changed.notify_waiters();
    }

    fn leave(&self) {
        let mut by_key = self.flights.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        // A load of a newer generation may have taken the place.
        if let Entry::Occupied(listed) = by_key.entry(Arc::clone(&self.key))
            && listed.get().generation == self.generation
        {
            listed.remove();
        }
    }
}

impl<T, E: Error + 'static> Drop for Leader<T, E> {
    fn drop(&mut self) {
        self.end(None);
    }
}

impl<T, E: Error + 'static> Outcome<T, E> {
    fn new() -> Self {
        Self { state: Mutex::new(State { given: None, has_ended: false }), changed: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State<T, E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T, E: Error + 'static> Given<T, E> {
    fn may_be_had(&self, asked_at: Option<Duration>) -> bool {
        self.usable_until.is_none_or(|until| asked_at.is_some_and(|asked_at| asked_at < until))
    }
}

impl<T, E: Error + 'static> Waiter<T, E> {
    /// The load's answer to a question of that time; without one, what the load itself ends with. `None` if it
    /// ended and left nothing for this question.
    pub(super) async fn answer(self, asked_at: Option<Duration>) -> Option<Answer<T, E>> {
        loop {
            // Before the look: it hears of every change from here on.
            let changed = self.outcome.changed.notified();
            {
                let state = self.outcome.state();
                if let Some(given) = state.given.as_ref().filter(|given| given.may_be_had(asked_at)) {
                    return Some(given.answer.clone());
                }
                if state.has_ended {
                    return None;
                }
            }
            changed.await;
        }
    }
}
