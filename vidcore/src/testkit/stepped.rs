//! Calls that are held until a scheduler lets them go: for tests that try orders no machine would come to
//! often.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::oneshot;

use crate::cache::tier::{Batch, CacheTier, Claim, ClaimMode, Look, Place, Stored, Ticket, TierError};
use crate::clock::Timestamp;
use crate::events::{Change, ChangeBounds, EventStore};
use crate::store::StoreError;
use crate::testkit::changes::ChangeLog;

/// Where calls are held. Clones are the same place.
#[derive(Debug, Clone, Default)]
pub struct Steps {
    held: Arc<Mutex<Vec<oneshot::Sender<()>>>>,
}

impl Steps {
    /// Waits until it is let go.
    pub async fn pause(&self) {
        let (go, held) = oneshot::channel();
        self.held().push(go);
        // Either way it goes on: who holds it is gone at the end of a test.
        let _ = held.await;
    }

    /// How many calls are held, some of which may have been given up.
    pub fn held_calls(&self) -> usize {
        self.held().len()
    }

    /// Lets the call at `place` among them go, counted around; nothing where none is held.
    pub fn let_go(&self, place: usize) {
        let mut held = self.held();
        if !held.is_empty() {
            let place = place % held.len();
            // Nobody waits for a call that was given up.
            let _ = held.swap_remove(place).send(());
        }
    }

    fn held(&self) -> MutexGuard<'_, Vec<oneshot::Sender<()>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A tier whose every call is held before it is carried out, and again before it is answered. It may be
/// away at either moment: what was carried out may be answered with an error.
#[derive(Debug)]
pub struct SteppedTier {
    inner: Mutex<Arc<dyn CacheTier>>,
    steps: Steps,
    is_away: AtomicBool,
    /// Cloned by each call that is carried out.
    at_work: Arc<()>,
}

/// A call that is carried out, until it is dropped.
struct Call {
    tier: Arc<dyn CacheTier>,
    _at_work: Arc<()>,
}

impl SteppedTier {
    /// `inner`, whose calls are held at `steps`.
    pub fn new(inner: Arc<dyn CacheTier>, steps: Steps) -> Self {
        Self { inner: Mutex::new(inner), steps, is_away: AtomicBool::new(false), at_work: Arc::default() }
    }

    /// Whether it answers.
    pub fn set_away(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::SeqCst);
    }

    /// Puts another tier in the place of the one there was, which is returned.
    pub fn replace(&self, inner: Arc<dyn CacheTier>) -> Arc<dyn CacheTier> {
        std::mem::replace(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner), inner)
    }

    /// Whether the tier behind it is carrying out a call.
    pub fn is_at_work(&self) -> bool {
        Arc::strong_count(&self.at_work) > 1
    }

    /// The tier, once the call is let go.
    async fn begin(&self) -> Result<Call, TierError> {
        self.steps.pause().await;
        self.answers()?;
        let tier = Arc::clone(&self.inner.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(Call { tier, _at_work: Arc::clone(&self.at_work) })
    }

    /// The answer, once it is let go.
    async fn end<T>(&self, call: Call, answer: Result<T, TierError>) -> Result<T, TierError> {
        drop(call);
        self.steps.pause().await;
        self.answers()?;
        answer
    }

    fn answers(&self) -> Result<(), TierError> {
        if self.is_away.load(Ordering::SeqCst) { Err(TierError::Away) } else { Ok(()) }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl CacheTier for SteppedTier {
    async fn look(&self, place: Place<'_>) -> Result<Look, TierError> {
        let call = self.begin().await?;
        let answer = call.tier.look(place).await;
        self.end(call, answer).await
    }

    async fn claim(&self, place: Place<'_>, mode: ClaimMode, holder: u64, lease: Duration) -> Result<Claim, TierError> {
        let call = self.begin().await?;
        let answer = call.tier.claim(place, mode, holder, lease).await;
        self.end(call, answer).await
    }

    async fn store(&self, place: Place<'_>, ticket: &Ticket, bytes: Bytes, ttl: Duration) -> Result<Stored, TierError> {
        let call = self.begin().await?;
        let answer = call.tier.store(place, ticket, bytes, ttl).await;
        self.end(call, answer).await
    }

    async fn give_up(&self, place: Place<'_>, ticket: &Ticket) -> Result<(), TierError> {
        let call = self.begin().await?;
        let answer = call.tier.give_up(place, ticket).await;
        self.end(call, answer).await
    }

    async fn applied(&self) -> Result<Option<i64>, TierError> {
        let call = self.begin().await?;
        let answer = call.tier.applied().await;
        self.end(call, answer).await
    }

    async fn apply(&self, batch: Batch<'_>) -> Result<Option<i64>, TierError> {
        let call = self.begin().await?;
        let answer = call.tier.apply(batch).await;
        self.end(call, answer).await
    }

    async fn reset(&self, caches: &[&str], up_to: i64) -> Result<(), TierError> {
        let call = self.begin().await?;
        let answer = call.tier.reset(caches, up_to).await;
        self.end(call, answer).await
    }
}

/// Changes whose every reading is held before it is done, and again before it is answered.
#[derive(Debug)]
pub struct SteppedChanges {
    /// The changes.
    pub log: Arc<ChangeLog>,
    /// Where it is held.
    pub steps: Steps,
}

#[async_trait]
impl EventStore for SteppedChanges {
    async fn change_bounds(&self) -> Result<ChangeBounds, StoreError> {
        self.steps.pause().await;
        let bounds = self.log.change_bounds().await;
        self.steps.pause().await;
        bounds
    }

    async fn changes_after(&self, after: i64, limit: u16) -> Result<Vec<Change>, StoreError> {
        self.steps.pause().await;
        let changes = self.log.changes_after(after, limit).await;
        self.steps.pause().await;
        changes
    }

    async fn prune_changes(&self, before: Timestamp, limit: u16) -> Result<u64, StoreError> {
        self.log.prune_changes(before, limit).await
    }
}
