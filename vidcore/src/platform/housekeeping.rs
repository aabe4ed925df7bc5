//! What has to be thrown away from time to time, and the numbers that are read from tables.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::jobs::{JobState, MEDIA_QUEUE, UPLOADS_QUEUE};
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
        count_jobs(&parts).await;
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

async fn count_jobs(parts: &Parts) {
    let counts = match parts.store.job_counts().await {
        Ok(counts) => counts,
        Err(error) => return tracing::warn!(%error, "jobs could not be counted"),
    };
    // A queue that has emptied is in no row: its gauges fall to zero all the same.
    let mut gauges: BTreeMap<(String, &'static str), u64> = BTreeMap::new();
    for queue in [UPLOADS_QUEUE, MEDIA_QUEUE] {
        for state in [JobState::Queued, JobState::Leased, JobState::Dead] {
            gauges.insert((queue.to_owned(), state.as_str()), 0);
        }
    }
    gauges.extend(counts.into_iter().map(|(queue, state, count)| ((queue.to_string(), state.as_str()), count)));
    for ((queue, state), count) in gauges {
        metrics::gauge!("vid_jobs", "queue" => queue, "state" => state).set(count as f64);
    }
}
