//! Who appends to which upload in this process.
//!
//! It makes taking over orderly: the one before is asked to stop, keeps what has come, and is waited for. That two
//! processes do not know of each other is no danger, only a few bytes sent twice: whose bytes count is decided by the row.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

use crate::id::UploadId;

/// How long one who was asked to stop is waited for: it has at most one commit to make.
const PATIENCE: Duration = Duration::from_secs(5);

/// The writers at work, one per upload.
#[derive(Debug, Default)]
pub(crate) struct Writers {
    at_work: Mutex<HashMap<UploadId, Turn>>,
}

/// Whose turn it is, or would be. Clones are made under the lock of the map alone.
#[derive(Debug, Clone, Default)]
struct Turn {
    /// Asks the one who came last to stop.
    stop: CancellationToken,
    /// Held by whoever is at work. Those who wait for it and give up leave it to the one who holds it.
    seat: Arc<Seat>,
}

type Seat = tokio::sync::Mutex<()>;

/// The right to append, until it is dropped or somebody else asks for it.
#[derive(Debug)]
pub(crate) struct Place {
    stop: CancellationToken,
    /// Given back before the visit ends.
    _seat: OwnedMutexGuard<()>,
    _visit: Visit,
}

/// One who works or waits. The last of them to leave clears the entry.
#[derive(Debug)]
struct Visit {
    writers: Arc<Writers>,
    id: UploadId,
    turn: Option<Turn>,
}

impl Writers {
    /// Takes over from whoever is at work; `None` if a later caller came first, or the one before does not end.
    pub(crate) async fn enter(self: &Arc<Self>, id: UploadId) -> Option<Place> {
        let (turn, before) = {
            let mut at_work = self.lock();
            let seat = at_work.get(&id).map(|turn| Arc::clone(&turn.seat)).unwrap_or_default();
            let turn = Turn { stop: CancellationToken::new(), seat };
            (turn.clone(), at_work.insert(id, turn))
        };
        if let Some(before) = before {
            before.stop.cancel();
        }
        let (stop, seat) = (turn.stop.clone(), Arc::clone(&turn.seat));
        let visit = Visit { writers: Arc::clone(self), id, turn: Some(turn) };
        tokio::select! {
            biased;
            () = stop.cancelled() => None,
            seat = seat.lock_owned() => Some(Place { stop: stop.clone(), _seat: seat, _visit: visit }),
            () = tokio::time::sleep(PATIENCE) => None,
        }
    }

    /// Stops whoever is at work, so that what has come is kept and the offset stands still.
    pub(crate) async fn settle(self: &Arc<Self>, id: UploadId) {
        let turn = self.lock().get(&id).cloned();
        if let Some(turn) = turn {
            self.stop(id, turn).await;
        }
    }

    /// The same for every upload: the process is about to end.
    pub(crate) async fn settle_all(self: &Arc<Self>) {
        let turns: Vec<_> = self.lock().iter().map(|(id, turn)| (*id, turn.clone())).collect();
        futures_util::future::join_all(turns.into_iter().map(|(id, turn)| self.stop(id, turn))).await;
    }

    async fn stop(self: &Arc<Self>, id: UploadId, turn: Turn) {
        let (stop, seat) = (turn.stop.clone(), Arc::clone(&turn.seat));
        let _visit = Visit { writers: Arc::clone(self), id, turn: Some(turn) };
        stop.cancel();
        let _ = tokio::time::timeout(PATIENCE, seat.lock_owned()).await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<UploadId, Turn>> {
        self.at_work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Cancelled when somebody else wants the place.
    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.stop
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.turn = None;
        let mut at_work = self.writers.lock();
        if at_work.get(&self.id).is_some_and(|turn| Arc::strong_count(&turn.seat) == 1) {
            at_work.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> UploadId {
        UploadId::from_bytes([7; 16])
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_one_waits_for_the_one_before() {
        let writers = Arc::new(Writers::default());
        let first = writers.enter(id()).await.expect("nobody is at work");
        let next = tokio::spawn({
            let writers = Arc::clone(&writers);
            async move { writers.enter(id()).await.is_some() }
        });
        first.stop().cancelled().await;
        assert!(!next.is_finished());
        drop(first);
        assert!(next.await.expect("no panic"));
        assert!(writers.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn of_several_that_wait_the_last_one_gets_the_place() {
        let writers = Arc::new(Writers::default());
        let first = writers.enter(id()).await.expect("nobody is at work");
        let (second, third) = (writers.enter(id()), writers.enter(id()));
        let (second, third, ()) = tokio::join!(second, third, async {
            first.stop().cancelled().await;
            drop(first);
        });
        assert!(third.is_some());
        drop((second, third));
        assert!(writers.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_gives_up_waiting_leaves_the_place_to_whoever_holds_it() {
        let writers = Arc::new(Writers::default());
        let first = writers.enter(id()).await.expect("nobody is at work");
        assert!(writers.enter(id()).await.is_none(), "the first does not end");
        let third = tokio::spawn({
            let writers = Arc::clone(&writers);
            async move { writers.enter(id()).await.is_some() }
        });
        tokio::time::sleep(PATIENCE / 2).await;
        assert!(!third.is_finished(), "the first is still at work");
        drop(first);
        assert!(third.await.expect("no panic"));
        assert!(writers.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_does_not_end_is_not_waited_for_for_ever() {
        let writers = Arc::new(Writers::default());
        let stuck = writers.enter(id()).await.expect("nobody is at work");
        assert!(writers.enter(id()).await.is_none());
        writers.settle(id()).await;
        drop(stuck);
        assert!(writers.lock().is_empty());
    }
}
