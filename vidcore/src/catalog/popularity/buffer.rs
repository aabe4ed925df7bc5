//! Views on their way to the database: gathered for a moment, written together.
//!
//! A view is acknowledged when it is here, and on disk when its batch is: views are the one thing a crash may
//! take although it was acknowledged. It takes what came within [`FLUSH_EVERY`] and during the flush under way
//! then, and never more than [`CAPACITY`]. An orderly stop takes nothing.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::catalog::popularity::{NewView, VIEW_WINDOW, ViewerKey};
use crate::clock::{Clock, Timestamp};
use crate::id::VideoId;
use crate::store::{Store, StoreError};

/// How long a view waits for others.
pub(crate) const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// Views of one batch, which is one transaction; as many that wait are not kept waiting.
pub(crate) const BATCH: usize = 512;

/// The most views that wait, also while the database is away; more are refused.
pub(crate) const CAPACITY: usize = 8192;

/// How many counted views each of two generations remembers.
const REMEMBERED: usize = 32_768;

type Key = (VideoId, ViewerKey);

/// What one process has not written yet, and whom it need not ask the database about.
pub(crate) struct ViewBuffer {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    arrived: Notify,
    crowded: Notify,
    /// Held over a flush, so that who waits for one knows that what was here before is written.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    pending: HashMap<Key, Timestamp>,
    /// Taken by a flush, and still here because the flush failed or goes on.
    sending: HashMap<Key, Timestamp>,
    recent: Recent,
    is_closed: bool,
}

/// The last counted view of viewers, the younger half and the older one, which goes when the younger is full.
#[derive(Default)]
struct Recent {
    young: HashMap<Key, Timestamp>,
    old: HashMap<Key, Timestamp>,
}

/// What became of a view that was handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It will be written within [`FLUSH_EVERY`].
    Soon,
    /// It waits for nobody but the caller: nothing else flushes any more.
    ByCaller,
    /// Its viewer's view is here or was counted already.
    Repeated,
}

impl ViewBuffer {
    pub(crate) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        let turn = tokio::sync::Mutex::new(());
        Self { store, clock, state: Mutex::default(), arrived: Notify::new(), crowded: Notify::new(), turn }
    }

    /// Takes a view in.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if [`CAPACITY`] views wait.
    pub(crate) fn add(&self, view: NewView) -> Result<Taken, StoreError> {
        self.take(&mut self.state(), view)
    }

    /// Takes a view in, if somebody else writes it: its caller waits for nothing.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if [`CAPACITY`] views wait, or nothing flushes any more.
    pub(crate) fn offer(&self, view: NewView) -> Result<Taken, StoreError> {
        let mut state = self.state();
        if state.is_closed {
            return Err(refused("views are written no more"));
        }
        self.take(&mut state, view)
    }

    fn take(&self, state: &mut State, view: NewView) -> Result<Taken, StoreError> {
        let key = (view.video, view.viewer);
        if state.knows(&key, view.at) {
            return Ok(Taken::Repeated);
        }
        if state.waiting() >= CAPACITY {
            return Err(refused("too many views wait to be counted"));
        }
        state.pending.insert(key, view.at);
        if state.is_closed {
            return Ok(Taken::ByCaller);
        }
        match state.pending.len() {
            1 => self.arrived.notify_one(),
            BATCH => self.crowded.notify_one(),
            _ => {}
        }
        Ok(Taken::Soon)
    }

    /// Flushes from time to time; runs until it is aborted. Sleeps while there is nothing to write.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            self.arrived.notified().await;
            tokio::select! {
                () = self.clock.sleep(FLUSH_EVERY) => {}
                () = self.crowded.notified() => {}
            }
            if let Err(error) = self.flush().await {
                let waiting = self.state().waiting();
                tracing::warn!(%error, waiting, "views could not be counted and will be tried again");
                self.arrived.notify_one();
            }
        }
    }

    /// Writes everything that was handed in before the call. What the database did not take stays; doing it
    /// again counts nothing twice.
    ///
    /// # Errors
    /// The store's own, as soon as one batch fails.
    pub(crate) async fn flush(&self) -> Result<(), StoreError> {
        let _turn = self.turn.lock().await;
        self.state().begin();
        loop {
            let batch = self.state().batch();
            if batch.is_empty() {
                return Ok(());
            }
            match self.store.count_views(batch.clone()).await {
                Ok(last_counted) => self.state().settle(&batch, &last_counted),
                // Waits for better times.
                Err(error) if error.is_retryable() => return Err(error),
                Err(error) => {
                    self.state().lose(&batch);
                    tracing::error!(%error, views = batch.len(), "views were lost");
                    return Err(error);
                }
            }
        }
    }

    /// Writes what is here. From now on every caller writes its own.
    pub(crate) async fn close(&self) {
        self.state().is_closed = true;
        if let Err(error) = self.flush().await {
            let waiting = self.state().waiting();
            tracing::error!(%error, waiting, "views could not be counted before the end and are lost with it");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ViewBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ViewBuffer").field("waiting", &self.state().waiting()).finish_non_exhaustive()
    }
}

fn refused(why: &'static str) -> StoreError {
    StoreError::Unavailable { operation: "count a view", source: why.into() }
}

impl State {
    fn knows(&self, key: &Key, at: Timestamp) -> bool {
        self.pending.contains_key(key) || self.sending.contains_key(key) || self.recent.counts(key, at)
    }

    fn waiting(&self) -> usize {
        self.pending.len() + self.sending.len()
    }

    fn begin(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        self.sending.extend(pending);
    }

    /// Stays among what is sent until it is settled: nobody's view is taken in again meanwhile.
    fn batch(&self) -> Vec<NewView> {
        let views = self.sending.iter().take(BATCH);
        views.map(|(&(video, viewer), &at)| NewView { video, viewer, at }).collect()
    }

    fn settle(&mut self, batch: &[NewView], last_counted: &[Option<Timestamp>]) {
        let mut counted = 0;
        for (view, last) in batch.iter().zip(last_counted) {
            self.sending.remove(&(view.video, view.viewer));
            counted += u64::from(*last == Some(view.at));
            if let Some(last) = last {
                self.recent.note((view.video, view.viewer), *last);
            }
        }
        metrics::counter!("vid_views_total", "outcome" => "counted").increment(counted);
        metrics::counter!("vid_views_total", "outcome" => "repeated").increment(batch.len() as u64 - counted);
    }

    fn lose(&mut self, batch: &[NewView]) {
        for view in batch {
            self.sending.remove(&(view.video, view.viewer));
        }
        metrics::counter!("vid_views_total", "outcome" => "lost").increment(batch.len() as u64);
    }
}

impl Recent {
    fn counts(&self, key: &Key, at: Timestamp) -> bool {
        let last = self.young.get(key).or_else(|| self.old.get(key));
        last.is_some_and(|last| at.as_millis().abs_diff(last.as_millis()) < VIEW_WINDOW.as_millis() as u64)
    }

    fn note(&mut self, key: Key, at: Timestamp) {
        if self.young.len() >= REMEMBERED {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, at);
    }
}
