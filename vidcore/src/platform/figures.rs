//! Figures that are gathered from time to time: what this process's caches do, and how full queues are.
//!
//! Queues are read from tables: every process of a fleet shows the same, so that it does not matter which
//! is asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::cache::CacheReport;
use crate::clock::Timestamp;
use crate::jobs::{QueueName, QueueStats};
use crate::platform::parts::Parts;

/// How often caches are looked at.
const EVERY: Duration = Duration::from_secs(1);

/// How many of those times pass between two looks at the queues.
const QUEUES_EVERY: u32 = 10;

/// Runs until it is aborted.
pub(super) async fn run(parts: Arc<Parts>) {
    let mut queues = Queues::default();
    loop {
        match parts.store.queues().await {
            Ok(found) => {
                queues.take(found);
                queues.0.values().for_each(|stats| show(stats, parts.now()));
            }
            Err(error) => tracing::warn!(%error, "queues could not be measured"),
        }
        for _ in 0..QUEUES_EVERY {
            parts.caches.report().await.iter().for_each(show_cache);
            parts.clock.sleep(EVERY).await;
        }
    }
}

fn show_cache(report: &CacheReport) {
    let cache = || report.name.clone();
    metrics::gauge!("vid_cache_entries", "cache" => cache()).set(report.entries as f64);
    metrics::gauge!("vid_cache_bytes", "cache" => cache()).set(report.size_bytes as f64);
    metrics::gauge!("vid_cache_max_bytes", "cache" => cache()).set(report.max_bytes as f64);
    for (name, outcome, count) in report.stats.counters() {
        if outcome.is_empty() {
            metrics::counter!(name, "cache" => cache()).absolute(count);
        } else {
            metrics::counter!(name, "cache" => cache(), "outcome" => outcome).absolute(count);
        }
    }
}

/// Every queue that was ever seen, as it is now.
#[derive(Debug, Default)]
struct Queues(BTreeMap<QueueName, QueueStats>);

impl Queues {
    /// Takes what was found. What was there before and is not now has come down to nothing: a gauge that is
    /// merely not set again would show its last value for ever.
    fn take(&mut self, found: Vec<QueueStats>) {
        for (name, stats) in &mut self.0 {
            *stats = QueueStats::empty(name.clone());
        }
        self.0.extend(found.into_iter().map(|stats| (stats.queue.clone(), stats)));
    }
}

fn show(stats: &QueueStats, now: Timestamp) {
    let queue = stats.queue.to_string();
    for (state, count) in
        [("ready", stats.ready), ("delayed", stats.delayed), ("running", stats.running), ("dead", stats.dead)]
    {
        metrics::gauge!("vid_jobs", "queue" => queue.clone(), "state" => state).set(count as f64);
    }
    let oldest = stats.oldest_due_at.map_or(Duration::ZERO, |due| now.since(due));
    metrics::gauge!("vid_jobs_oldest_seconds", "queue" => queue.clone()).set(oldest.as_secs_f64());
    let paused = if stats.paused_since.is_some() { 1.0 } else { 0.0 };
    metrics::gauge!("vid_queue_paused", "queue" => queue).set(paused);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_has_run_empty_is_shown_as_empty() {
        let (media, mail) = (QueueName::new("media"), QueueName::new("mail"));
        let mut queues = Queues::default();
        queues.take(vec![QueueStats {
            ready: 3,
            oldest_due_at: Some(Timestamp::from_millis(1)),
            ..QueueStats::empty(media.clone())
        }]);
        queues.take(vec![QueueStats { dead: 1, ..QueueStats::empty(mail.clone()) }]);
        assert_eq!(Some(&QueueStats::empty(media.clone())), queues.0.get(&media));
        assert_eq!(Some(1), queues.0.get(&mail).map(|stats| stats.dead));
    }
}
