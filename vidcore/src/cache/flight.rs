//! Loads under way: at most one per key and generation, and everybody who waits for it.

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::cache::generation::{Generation, Stripe};
use crate::cache::{Cached, LoadError};

/// What a load ends with.
pub(super) type Answer<T, E> = Result<Option<Arc<Cached<T>>>, LoadError<E>>;

/// An answer that those who wait may have.
#[derive(Debug)]
pub(super) struct Given<T, E: Error + 'static> {
    answer: Answer<T, E>,
    /// What there is until the load ends may be had as long as this; the end of the load always.
    usable_until: Option<Duration>,
}

/// Hears a load's answer.
pub(super) type Waiter<T, E> = watch::Receiver<Option<Given<T, E>>>;

/// The loads under way, by key.
#[derive(Debug)]
pub(super) struct Flights<T, E: Error + 'static> {
    by_key: Mutex<HashMap<Arc<str>, Flight<T, E>>>,
}

#[derive(Debug)]
struct Flight<T, E: Error + 'static> {
    generation: Generation,
    answer: Waiter<T, E>,
}

/// The duty to load one key. Dropped without an answer, it tells the waiters that nothing comes.
#[derive(Debug)]
pub(super) struct Leader<T, E: Error + 'static> {
    flights: Arc<Flights<T, E>>,
    key: Arc<str>,
    stripe: Stripe,
    generation: Generation,
    answer: watch::Sender<Option<Given<T, E>>>,
    is_listed: bool,
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
            return (flight.answer.clone(), None);
        }
        let (sender, receiver) = watch::channel(None);
        let key: Arc<str> = key.into();
        by_key.insert(Arc::clone(&key), Flight { generation, answer: receiver.clone() });
        let flights = Arc::clone(self);
        (receiver, Some(Leader { flights, key, stripe, generation, answer: sender, is_listed: true }))
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
        self.answer.borrow().as_ref().is_some_and(|given| given.may_be_had(Some(now)))
    }

    /// Answers everybody who waits, now and until the load ends, which goes on: but not who asks when the
    /// answer's last time has come.
    pub(super) fn answer(&self, answer: Answer<T, E>, usable_until: Duration) {
        self.answer.send_replace(Some(Given { answer, usable_until: Some(usable_until) }));
    }

    /// Answers everybody who waits, and ends the load.
    pub(super) fn finish(mut self, answer: Answer<T, E>) {
        // Off the list first: who was told of a failure and tries again must start a new load.
        self.leave();
        // Nobody can come to wait any more, so that nothing is lost where nobody does.
        let _ = self.answer.send(Some(Given { answer, usable_until: None }));
    }

    fn leave(&mut self) {
        if !std::mem::take(&mut self.is_listed) {
            return;
        }
        let mut by_key = self.flights.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        // A load of a newer generation may have taken the place.
        if by_key.get(&self.key).is_some_and(|flight| flight.generation == self.generation) {
            by_key.remove(&self.key);
        }
    }
}

impl<T, E: Error + 'static> Drop for Leader<T, E> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl<T, E: Error + 'static> Given<T, E> {
    fn may_be_had(&self, asked_at: Option<Duration>) -> bool {
        self.usable_until.is_none_or(|until| asked_at.is_some_and(|asked_at| asked_at < until))
    }
}

/// The answer of the load that `waiter` waits for, to a question of that time; without one, what the load
/// itself ends with. `None` if it ended and left nothing for this question.
pub(super) async fn answer_of<T, E: Error + 'static>(
    mut waiter: Waiter<T, E>,
    asked_at: Option<Duration>,
) -> Option<Answer<T, E>> {
    let may_be_had = |given: &Option<Given<T, E>>| given.as_ref().is_some_and(|given| given.may_be_had(asked_at));
    let given = waiter.wait_for(may_be_had).await.ok()?;
    given.as_ref().map(|given| given.answer.clone())
}
