//! Pauses between attempts to connect.

use std::sync::Arc;
use std::time::Duration;

use crate::entropy::{Entropy, EntropyExt};
use crate::jobs::retry::RetryPolicy;

/// Short enough that a restart is not noticed for long, long enough that a fleet does not keep a
/// server busy with connections alone: on average one attempt per second and connection.
const PAUSES: RetryPolicy = RetryPolicy { base: Duration::from_millis(50), cap: Duration::from_secs(2) };

/// How often it went wrong since it last worked.
#[derive(Debug)]
pub(crate) struct Backoff {
    failures: u16,
    entropy: Arc<dyn Entropy>,
}

impl Backoff {
    pub(super) fn new(entropy: Arc<dyn Entropy>) -> Self {
        Self { failures: 0, entropy }
    }

    /// The connection has proven that it works: the next pause is a short one.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Waits, in real time: it is a server outside that is spared.
    pub(crate) async fn pause(&mut self) {
        tokio::time::sleep(self.next_pause()).await;
    }

    fn next_pause(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        PAUSES.delay(self.failures, self.entropy.unit())
    }

    /// Whether this is the first failure since it last worked: the one worth a line in the log.
    pub(crate) fn is_fresh(&self) -> bool {
        self.failures == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SeededEntropy;

    #[test]
    fn a_server_that_is_away_is_tried_about_once_a_second_and_never_in_step() {
        let mut backoff = Backoff::new(Arc::new(SeededEntropy::new(7)));
        assert!(backoff.next_pause() <= PAUSES.base);
        let pauses: Vec<Duration> = (0..100).map(|_| backoff.next_pause()).collect();
        assert!(pauses.iter().all(|pause| *pause <= PAUSES.cap));
        assert!(pauses.iter().sum::<Duration>() > Duration::from_secs(80), "{pauses:?}");
        let distinct: std::collections::HashSet<_> = pauses.iter().collect();
        assert!(distinct.len() > 90);
        backoff.reset();
        assert!(backoff.next_pause() <= PAUSES.base);
    }
}
