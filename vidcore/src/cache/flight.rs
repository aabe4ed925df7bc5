//! Loads under way: at most one per key and generation, and everybody who waits for it.

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::cache::generation::{Generation, Stripe};
use crate::cache::{Cached, LoadError};

/// What a load ends with.
pub(super) type Answer<T, E> = Result<Option<Arc<Cached<T>>>, LoadError<E>>;

/// Hears a load's answer.
pub(super) type Waiter<T, E> = watch::Receiver<Option<Answer<T, E>>>;

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
    answer: watch::Sender<Option<Answer<T, E>>>,
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

    /// Whether those who wait have been answered.
    pub(super) fn is_answered(&self) -> bool {
        self.answer.borrow().is_some()
    }

    /// Answers everybody who waits, now and until the load ends, which goes on.
    pub(super) fn answer(&self, answer: Answer<T, E>) {
        self.answer.send_replace(Some(answer));
    }

    /// Answers everybody who waits, and ends the load.
    pub(super) fn finish(mut self, answer: Answer<T, E>) {
        // Off the list first: who was told of a failure and tries again must start a new load.
        self.leave();
        self.answer.send_replace(Some(answer));
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

/// The answer of the load that `waiter` waits for.
pub(super) async fn answer_of<T, E: Error + 'static>(mut waiter: Waiter<T, E>) -> Answer<T, E> {
    match waiter.wait_for(Option::is_some).await {
        Ok(answer) => answer.clone().unwrap_or(Err(LoadError::CutOff)),
        Err(_) => Err(LoadError::CutOff),
    }
}
