//! What has to be thrown away from time to time.

use std::sync::Arc;
use std::time::Duration;

use crate::media::scratch;
use crate::platform::parts::Parts;
use crate::storage::Uploads;
use crate::store::StoreError;

/// How often.
const EVERY: Duration = Duration::from_secs(60);

/// How long invalidations are kept for processes that read the tail of `changes`.
const KEEP_CHANGES: Duration = Duration::from_secs(600);

/// Runs until it is aborted. Every process of a fleet does it; doing it twice is harmless.
pub(super) async fn run(parts: Arc<Parts>) {
    loop {
        if let Err(error) = tidy(&parts).await {
            tracing::warn!(%error, "housekeeping failed and will be repeated");
        }
        if let Err(error) = Uploads::new(Arc::clone(&parts)).expire().await {
            tracing::warn!(%error, "expired uploads could not be cleared and will be tried again");
        }
        parts.clock.sleep(EVERY).await;
    }
}

async fn tidy(parts: &Parts) -> Result<(), StoreError> {
    let now = parts.now();
    parts.store.prune_changes(now.minus(KEEP_CHANGES)).await?;
    parts.store.prune_idempotency(now).await?;
    parts.store.prune_sessions(now).await?;
    scratch::remove_ended(&parts.settings.data_dir, &*parts.store).await
}
