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
        self.failures = self.failures.saturating_add(1);
        tokio::time::sleep(PAUSES.delay(self.failures, self.entropy.unit())).await;
    }

    /// Whether this is the first failure since it last worked: the one worth a line in the log.
    pub(crate) fn is_fresh(&self) -> bool {
        self.failures == 0
    }
}
