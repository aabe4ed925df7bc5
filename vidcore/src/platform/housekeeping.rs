//! What every process does for itself from time to time: it clears the working folders on its disk. What is
//! done once for all processes is a job (`crate::housekeeping`).

use std::sync::Arc;
use std::time::Duration;

use crate::media::scratch;
use crate::platform::parts::Parts;

/// How often.
const EVERY: Duration = Duration::from_secs(60);

/// Runs until it is aborted. Every process of a fleet does it; doing it twice is harmless.
pub(super) async fn run(parts: Arc<Parts>) {
    loop {
        if let Err(error) = scratch::remove_ended(&parts.settings.data_dir, &*parts.store).await {
            tracing::warn!(%error, "working folders could not be looked through and will be");
        }
        parts.clock.sleep(EVERY).await;
    }
}
