//! A tier that a claim can take away.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::cache::tier::{Batch, CacheTier, Claim, ClaimMode, Look, Place, Stored, Ticket, TierError};

/// A tier that can be away, or lose everything.
#[derive(Debug)]
pub struct MoodyTier {
    inner: Mutex<Arc<dyn CacheTier>>,
    is_away: AtomicBool,
}

impl MoodyTier {
    /// Whether it answers.
    pub fn set_away(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::SeqCst);
    }

    /// One that answers with this one.
    pub(super) fn over(inner: Arc<dyn CacheTier>) -> Self {
        Self { inner: Mutex::new(inner), is_away: AtomicBool::new(false) }
    }

    /// Loses everything for `inner`.
    pub(super) fn replace(&self, inner: Arc<dyn CacheTier>) {
        *self.inner.lock().unwrap_or_else(PoisonError::into_inner) = inner;
    }

    fn inner(&self) -> Result<Arc<dyn CacheTier>, TierError> {
        if self.is_away.load(Ordering::SeqCst) {
            return Err(TierError::Away);
        }
        Ok(Arc::clone(&self.inner.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl CacheTier for MoodyTier {
    async fn look(&self, place: Place<'_>) -> Result<Look, TierError> {
        self.inner()?.look(place).await
    }

    async fn claim(&self, place: Place<'_>, mode: ClaimMode, holder: u64, lease: Duration) -> Result<Claim, TierError> {
        self.inner()?.claim(place, mode, holder, lease).await
    }

    async fn store(&self, place: Place<'_>, ticket: &Ticket, bytes: Bytes, ttl: Duration) -> Result<Stored, TierError> {
        self.inner()?.store(place, ticket, bytes, ttl).await
    }

    async fn give_up(&self, place: Place<'_>, ticket: &Ticket) -> Result<(), TierError> {
        self.inner()?.give_up(place, ticket).await
    }

    async fn applied(&self) -> Result<Option<i64>, TierError> {
        self.inner()?.applied().await
    }

    async fn apply(&self, batch: Batch<'_>) -> Result<Option<i64>, TierError> {
        self.inner()?.apply(batch).await
    }

    async fn reset(&self, caches: &[&str], up_to: i64) -> Result<(), TierError> {
        self.inner()?.reset(caches, up_to).await
    }
}
