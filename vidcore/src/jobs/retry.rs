//! How long to wait before the next attempt: a pure function.

use std::time::Duration;

/// Delays of a retried job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The longest delay before the second attempt.
    pub base: Duration,
    /// The longest delay before any attempt.
    pub cap: Duration,
}

impl Default for RetryPolicy {
    /// 2 s, doubling up to 10 minutes.
    fn default() -> Self {
        Self { base: Duration::from_secs(2), cap: Duration::from_secs(600) }
    }
}

impl RetryPolicy {
    /// Delay before attempt `attempt + 1`, where `attempt` counts from 1.
    ///
    /// Drawn evenly from `(0, min(cap, base · 2^(attempt − 1))]` ("full jitter", AWS Architecture
    /// Blog, "Exponential Backoff And Jitter", 2015). Never zero. `unit` is a random number of `[0, 1)`.
    pub fn delay(&self, attempt: u16, unit: f64) -> Duration {
        let doublings = u32::from(attempt.saturating_sub(1)).min(31);
        let ceiling = self.base.saturating_mul(1 << doublings).min(self.cap);
        ceiling.mul_f64(1.0 - unit.clamp(0.0, 1.0)).max(Duration::from_millis(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap_and_are_never_zero() {
        let policy = RetryPolicy { base: Duration::from_secs(2), cap: Duration::from_secs(60) };
        let longest: Vec<u64> = (1..=7).map(|attempt| policy.delay(attempt, 0.0).as_secs()).collect();
        assert_eq!([2, 4, 8, 16, 32, 60, 60], *longest);
        assert_eq!(Duration::from_millis(1), policy.delay(1, 1.0));
        assert_eq!(Duration::from_secs(60), policy.delay(u16::MAX, 0.0));
    }
}
