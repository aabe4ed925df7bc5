//! What every process does for itself from time to time: its disk's working folders, and the numbers
//! that are read from tables. What is done once for all processes is a job (`crate::housekeeping`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::jobs::{JobState, QueueName};
use crate::media::scratch;
use crate::platform::parts::Parts;

/// How often.
const EVERY: Duration = Duration::from_secs(60);

/// Runs until it is aborted. Every process of a fleet does it; doing it twice is harmless.
pub(super) async fn run(parts: Arc<Parts>) {
    let mut jobs = JobCounts::default();
    loop {
        if let Err(error) = scratch::remove_ended(&parts.settings.data_dir, &*parts.store).await {
            tracing::warn!(%error, "working folders could not be looked through and will be");
        }
        count_jobs(&parts, &mut jobs).await;
        parts.clock.sleep(EVERY).await;
    }
}

/// How many jobs there are, by queue and the name of their state.
#[derive(Debug, Default)]
struct JobCounts(BTreeMap<(QueueName, &'static str), u64>);

impl JobCounts {
    /// Takes what was counted. What was there before and is not counted now has come down to zero: a
    /// gauge that is merely not set again would show its last value for ever.
    fn take(&mut self, counted: Vec<(QueueName, JobState, u64)>) {
        self.0.values_mut().for_each(|count| *count = 0);
        self.0.extend(counted.into_iter().map(|(queue, state, count)| ((queue, state.as_str()), count)));
    }
}

async fn count_jobs(parts: &Parts, jobs: &mut JobCounts) {
    match parts.store.job_counts().await {
        Ok(counted) => {
            jobs.take(counted);
            for ((queue, state), count) in &jobs.0 {
                metrics::gauge!("vid_jobs", "queue" => queue.to_string(), "state" => *state).set(*count as f64);
            }
        }
        Err(error) => tracing::warn!(%error, "jobs could not be counted"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_has_run_empty_is_shown_as_empty() {
        let (media, mut jobs) = (QueueName::new("media"), JobCounts::default());
        jobs.take(vec![(media.clone(), JobState::Queued, 3), (media.clone(), JobState::Leased, 1)]);
        jobs.take(vec![(media.clone(), JobState::Queued, 2)]);
        assert_eq!(Some(&2), jobs.0.get(&(media.clone(), "queued")));
        assert_eq!(Some(&0), jobs.0.get(&(media, "leased")));
    }
}
