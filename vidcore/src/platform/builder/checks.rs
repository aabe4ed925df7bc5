//! Numbers that nobody else looks at.

use std::num::NonZeroU32;
use std::time::Duration;

use super::OpenError;
use crate::jobs::retry::RetryPolicy;
use crate::jobs::worker::WorkerOptions;
use crate::platform::settings::{RateLimitSettings, WorkerSettings};

pub(super) fn worker_options(settings: &WorkerSettings) -> Result<WorkerOptions, OpenError> {
    if settings.concurrency == 0 {
        return Err(OpenError::Setting { setting: "worker.concurrency", message: "at least 1".to_owned() });
    }
    if settings.short_concurrency == 0 {
        return Err(OpenError::Setting { setting: "worker.short_concurrency", message: "at least 1".to_owned() });
    }
    if settings.max_attempts == 0 {
        return Err(OpenError::Setting { setting: "worker.max_attempts", message: "at least 1".to_owned() });
    }
    if settings.heartbeat_ms == 0 || settings.heartbeat_ms > settings.lease_ms / 3 {
        let message = format!("between 1 and a third of worker.lease_ms ({})", settings.lease_ms / 3);
        return Err(OpenError::Setting { setting: "worker.heartbeat_ms", message });
    }
    Ok(WorkerOptions {
        concurrency: settings.concurrency,
        lease: Duration::from_millis(settings.lease_ms),
        heartbeat: Duration::from_millis(settings.heartbeat_ms),
        sweep: Duration::from_millis(settings.sweep_ms.max(1)),
        grace: Duration::from_millis(settings.grace_ms),
        per_owner: NonZeroU32::new(settings.max_running_per_owner),
        retry: RetryPolicy {
            base: Duration::from_millis(settings.retry_base_ms),
            cap: Duration::from_millis(settings.retry_cap_ms),
        },
    })
}

/// Numbers that the limiter itself does not look at.
pub(super) fn check_limits(settings: &RateLimitSettings) -> Result<(), OpenError> {
    let refuse = |setting, message: &str| Err(OpenError::Setting { setting, message: message.to_owned() });
    if settings.redis_timeout_ms == 0 {
        return refuse("rate_limits.redis_timeout_ms", "at least 1");
    }
    if !(1..=100).contains(&settings.away_percent) {
        return refuse("rate_limits.away_percent", "between 1 and 100");
    }
    if !(1..=100).contains(&settings.away_login_percent) {
        return refuse("rate_limits.away_login_percent", "between 1 and 100");
    }
    Ok(())
}
