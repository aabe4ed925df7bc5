//! Who appends to which upload in this process.
//!
//! It makes taking over orderly: the one before is asked to stop, keeps what has come, and is waited for. That two
//! processes do not know of each other is no danger, only a few bytes sent twice: whose bytes count is decided by the row.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::id::UploadId;

/// How long one who was asked to stop is waited for: it has at most one commit to make.
const PATIENCE: Duration = Duration::from_secs(5);

/// The writers at work, one per upload.
#[derive(Debug, Default)]
pub(crate) struct Writers {
    at_work: Mutex<HashMap<UploadId, Arc<Turn>>>,
}

#[derive(Debug, Default)]
struct Turn {
    stop: CancellationToken,
    ended: CancellationToken,
}

/// The right to append, until it is dropped or somebody else asks for it.
#[derive(Debug)]
pub(crate) struct Place {
    writers: Arc<Writers>,
    id: UploadId,
    turn: Arc<Turn>,
}

impl Writers {
    /// Takes over from whoever is at work; `None` if a later caller came first, or the one before does not end.
    pub(crate) async fn enter(self: &Arc<Self>, id: UploadId) -> Option<Place> {
        let turn = Arc::new(Turn::default());
        let before = self.lock().insert(id, Arc::clone(&turn));
        let place = Place { writers: Arc::clone(self), id, turn };
        let Some(before) = before else { return Some(place) };
        before.stop.cancel();
        tokio::select! {
            biased;
            () = place.turn.stop.cancelled() => None,
            () = before.ended.cancelled() => Some(place),
            () = tokio::time::sleep(PATIENCE) => None,
        }
    }

    /// Stops whoever is at work, so that what has come is kept and the offset stands still.
    pub(crate) async fn settle(&self, id: UploadId) {
        let turn = self.lock().get(&id).cloned();
        if let Some(turn) = turn {
            turn.stop.cancel();
            let _ = tokio::time::timeout(PATIENCE, turn.ended.cancelled()).await;
        }
    }

    /// The same for every upload: the process is about to end.
    pub(crate) async fn settle_all(&self) {
        let turns: Vec<_> = self.lock().values().cloned().collect();
        for turn in &turns {
            turn.stop.cancel();
        }
        let ended = futures_util::future::join_all(turns.iter().map(|turn| turn.ended.cancelled()));
        let _ = tokio::time::timeout(PATIENCE, ended).await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<UploadId, Arc<Turn>>> {
        self.at_work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Cancelled when somebody else wants the place.
    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.turn.stop
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut at_work = self.writers.lock();
        if at_work.get(&self.id).is_some_and(|turn| Arc::ptr_eq(turn, &self.turn)) {
            at_work.remove(&self.id);
        }
        drop(at_work);
        self.turn.ended.cancel();
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
    async fn one_that_does_not_end_is_not_waited_for_for_ever() {
        let writers = Arc::new(Writers::default());
        let _stuck = writers.enter(id()).await.expect("nobody is at work");
        assert!(writers.enter(id()).await.is_none());
        writers.settle(id()).await;
    }
}
