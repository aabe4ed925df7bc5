//! Drops originals that the settings do not want kept, once nothing more is made of them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::Timestamp;
use crate::jobs::worker::{JobContext, JobFailure, JobHandler};
use crate::platform::parts::Parts;
use crate::platform::settings::StorageSettings;
use crate::store::Causes;

use super::ended;

pub(super) const KIND: &str = "drop_originals";

/// Originals that one job drops.
const ORIGINALS_AT_ONCE: u16 = 100;

#[derive(Debug)]
pub(super) struct DropOriginals(pub(super) Arc<Parts>);

#[async_trait]
impl JobHandler for DropOriginals {
    async fn run(&self, context: JobContext) -> Result<Causes, JobFailure> {
        let parts = &self.0;
        let Some(before) = dropped_before(&parts.settings.storage, parts.now()) else { return Ok(Causes::none()) };
        let idle = parts.store.idle_originals(before, ORIGINALS_AT_ONCE).await;
        let idle = idle.map_err(|error| JobFailure::Retry(error.into()))?;
        let found = idle.len();
        for source in idle {
            if context.cancel.is_cancelled() {
                return Err(JobFailure::Cancelled);
            }
            let dropped = parts.store.drop_original(source, before).await;
            let Some(key) = dropped.map_err(|error| JobFailure::Retry(error.into()))? else { continue };
            crate::failpoints::hit("after-drop");
            // It belongs to nobody from here on: should it stay, the collection takes it.
            if let Err(error) = parts.objects.delete(&key).await {
                tracing::warn!(%error, source.id = %source, "a dropped original could not be deleted yet");
            }
        }
        Ok(ended(parts, KIND, found == usize::from(ORIGINALS_AT_ONCE)))
    }
}

/// The time before which what came is dropped; `None` if all is kept.
fn dropped_before(settings: &StorageSettings, now: Timestamp) -> Option<Timestamp> {
    match (settings.keep_originals, settings.originals_keep_s) {
        (false, _) => Some(now),
        (true, 0) => None,
        (true, seconds) => Some(now.minus(Duration::from_secs(seconds))),
    }
}
