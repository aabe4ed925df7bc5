//! The shared tier as the caches of one process use it: kept up with committed changes, and bounded
//! where it is away.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore, SemaphorePermit, watch};

use crate::cache::tier::{Batch, CacheTier, Place, TierError};
use crate::events::EventStore;
use crate::store::StoreError;

/// How many changes are applied at once.
const TAIL: u16 = 500;

/// How many batches are applied before other tasks have their turn.
const ROUNDS: usize = 64;

/// How often the tier is asked how far it is though nothing was heard: it may have lost what it knew.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a reader waits for the tier to be told of a change this process knows of. It takes about a
/// millisecond.
const PATIENCE: Duration = Duration::from_millis(100);

/// The tier has not said how far it is, or is not believed.
const UNKNOWN: i64 = i64::MIN;

/// A tier, told of every committed change. Clones are handles to the same one.
///
/// What is not yet applied to the tier is not taken from it by a process that knows of the change. So a
/// process may read its own writes at once, whoever applies them and however long that takes.
#[derive(Clone)]
pub struct SharedTier {
    inner: Arc<Inner>,
}

struct Inner {
    tier: Arc<dyn CacheTier>,
    /// The caches that keep something in it.
    caches: Mutex<Vec<&'static str>>,
    /// How far the tier is, as it last said.
    applied: watch::Sender<i64>,
    /// Whether the tier was found to be told of the changes of this database, and not of another one's.
    is_checked: AtomicBool,
    heard: Notify,
    /// Loads that may run at once without the tier.
    bypass: Semaphore,
}

/// Why changes were not applied.
#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error(transparent)]
    Tier(#[from] TierError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SharedTier {
    /// `tier`, which nothing is taken from until [`follow`](Self::follow) runs. While it is away, at
    /// most `bypass_loads` loads of all caches run at once; further ones wait.
    pub fn new(tier: Arc<dyn CacheTier>, bypass_loads: usize) -> Self {
        let inner = Inner {
            tier,
            caches: Mutex::default(),
            applied: watch::Sender::new(UNKNOWN),
            is_checked: AtomicBool::new(false),
            heard: Notify::new(),
            bypass: Semaphore::new(bypass_loads.clamp(1, Semaphore::MAX_PERMITS)),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Applies committed changes to the tier in their order, for as long as it is polled: those that no
    /// process has applied yet, also such as were committed by a process that has ended since.
    pub async fn follow(&self, changes: &dyn EventStore) {
        let mut is_in_trouble = false;
        loop {
            match self.catch_up(changes).await {
                Ok(()) => is_in_trouble = false,
                Err(FollowError::Tier(TierError::Away)) => {}
                Err(error) => {
                    if !std::mem::replace(&mut is_in_trouble, true) {
                        tracing::warn!(%error, "the shared cache could not be told of changes; nothing stale is taken from it");
                    }
                }
            }
            // Real time: a server outside is asked.
            let _ = tokio::time::timeout(LOOK_EVERY, self.inner.heard.notified()).await.map_err(|_| self.doubt());
        }
    }

    /// Something was committed: [`follow`](Self::follow) should look now.
    pub fn changed(&self) {
        self.inner.heard.notify_one();
    }

    pub(super) fn register(&self, cache: &'static str) {
        self.inner.caches.lock().unwrap_or_else(PoisonError::into_inner).push(cache);
    }

    pub(super) fn tier(&self) -> &dyn CacheTier {
        &*self.inner.tier
    }

    /// As [`look`](Self::look), without waiting for a tier that is behind.
    pub(super) async fn glance(&self, place: Place<'_>, required: i64) -> Result<Option<Option<Bytes>>, TierError> {
        if !self.inner.is_checked.load(Ordering::SeqCst) {
            return Ok(None);
        }
        let look = self.tier().look(place).await?;
        let is_told = look.applied.is_some_and(|applied| applied >= required);
        Ok(is_told.then_some(look.bytes))
    }

    /// What the tier has at `place`: `None` if it may not be told from what was there before the change
    /// with the id `required`.
    pub(super) async fn look(&self, place: Place<'_>, required: i64) -> Result<Option<Option<Bytes>>, TierError> {
        for _ in 0..2 {
            // Before the look: what was read before the check may be another database's.
            let is_checked = self.inner.is_checked.load(Ordering::SeqCst);
            let look = self.tier().look(place).await?;
            if is_checked && look.applied.is_some_and(|applied| applied >= required) {
                return Ok(Some(look.bytes));
            }
            if is_checked && *self.inner.applied.borrow() >= required {
                // It has fallen back behind what it said before.
                self.doubt();
            }
            self.changed();
            if !self.has_applied(required).await {
                break;
            }
        }
        Ok(None)
    }

    /// A place among the loads that go past the tier.
    pub(super) async fn bypass(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed.
        self.inner.bypass.acquire().await.ok()
    }

    async fn has_applied(&self, required: i64) -> bool {
        let mut applied = self.inner.applied.subscribe();
        let reached = applied.wait_for(|applied| *applied != UNKNOWN && *applied >= required);
        tokio::time::timeout(PATIENCE, reached).await.is_ok_and(|reached| reached.is_ok())
    }

    /// The tier is told of this database's changes up to the one with this id.
    fn reached(&self, applied: i64) {
        // First: who waits for the id looks at this next.
        self.inner.is_checked.store(true, Ordering::SeqCst);
        self.inner.applied.send_replace(applied);
    }

    fn doubt(&self) {
        self.inner.applied.send_replace(UNKNOWN);
    }

    async fn catch_up(&self, changes: &dyn EventStore) -> Result<(), FollowError> {
        for _ in 0..ROUNDS {
            let known = *self.inner.applied.borrow();
            let applied = if known == UNKNOWN { self.tier().applied().await? } else { Some(known) };
            let Some(applied) = applied else {
                self.reset(changes).await?;
                continue;
            };
            let tail = changes.changes_after(applied, TAIL).await?;
            let Some(first) = tail.first() else {
                let last = changes.change_bounds().await?.last;
                if last == applied {
                    self.reached(applied);
                    return Ok(());
                }
                // Another database has other ids, and changes pruned unread leave a gap without an end; but
                // one may have been committed just now.
                if last < applied || changes.changes_after(applied, 1).await?.is_empty() {
                    self.reset(changes).await?;
                }
                continue;
            };
            if first.id != applied + 1 {
                self.reset(changes).await?;
                continue;
            }
            let is_whole = tail.len() < usize::from(TAIL);
            let now = self.tier().apply(Batch { after: applied, changes: &tail }).await?;
            metrics::counter!("vid_cache_changes_applied_total").increment(tail.len() as u64);
            match now {
                Some(now) if now >= applied => {
                    self.reached(now);
                    if is_whole {
                        return Ok(());
                    }
                }
                _ => self.doubt(),
            }
        }
        // Others commit or apply all the while; the next look goes on from here.
        self.changed();
        Ok(())
    }

    /// Nobody knows what the tier has missed: everything in it goes.
    async fn reset(&self, changes: &dyn EventStore) -> Result<(), FollowError> {
        // Read first: what is committed after it is applied after it.
        let last = changes.change_bounds().await?.last;
        let caches = self.inner.caches.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.tier().reset(&caches, last).await?;
        metrics::counter!("vid_cache_resets_total").increment(1);
        tracing::info!(caches = caches.len(), "the shared cache did not know how far it was and begins anew");
        self.reached(last);
        Ok(())
    }
}

impl fmt::Debug for SharedTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedTier")
            .field("tier", &self.inner.tier)
            .field("applied", &*self.inner.applied.borrow())
            .finish_non_exhaustive()
    }
}
