//! What of a platform goes through Redis, when the settings name one.

#[cfg(not(feature = "redis"))]
mod absent;
#[cfg(feature = "redis")]
mod present;

#[cfg(not(feature = "redis"))]
pub(super) use absent::RedisParts;
#[cfg(feature = "redis")]
pub(super) use present::RedisParts;

use crate::platform::OpenError;
use crate::platform::settings::{DispatcherChoice, LimitsChoice, Settings};

/// Whether the settings name a Redis.
fn is_wanted(settings: &Settings) -> Result<bool, OpenError> {
    let named = !settings.redis.url.is_empty();
    if settings.worker.dispatcher == DispatcherChoice::Redis && !named {
        let message = "`redis` needs redis.url".to_owned();
        return Err(OpenError::Setting { setting: "worker.dispatcher", message });
    }
    if settings.rate_limits.back_end == LimitsChoice::Redis && !named {
        let message = "`redis` needs redis.url".to_owned();
        return Err(OpenError::Setting { setting: "rate_limits.back_end", message });
    }
    Ok(named)
}
