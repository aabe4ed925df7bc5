//! What processes share of cached reads and budgets, as the settings say.

use std::sync::Arc;

use super::{OpenError, PlatformBuilder};
use crate::cache::{MemoryCache, SharedTier};
use crate::keys::KeyRing;
use crate::platform::settings::{CacheChoice, LimitsChoice};
use crate::rate_limit::{FallbackRateLimit, Limiter, MemoryRateLimit, RateLimit, Shares};

impl PlatformBuilder {
    pub(super) fn shared_tier(&mut self) -> Result<Option<SharedTier>, OpenError> {
        let settings = &self.settings.cache;
        if settings.redis_timeout_ms == 0 || settings.bypass_loads == 0 {
            let setting = if settings.bypass_loads == 0 { "cache.bypass_loads" } else { "cache.redis_timeout_ms" };
            return Err(OpenError::Setting { setting, message: "at least 1".to_owned() });
        }
        let redis = |parts: &mut Self| match &mut parts.redis {
            Some(redis) => redis.cache(&parts.settings, &parts.clock),
            None => Err(OpenError::Setting { setting: "cache.tier", message: "`redis` needs redis.url".to_owned() }),
        };
        let (choice, max_bytes, bypass_loads) = (settings.tier, settings.max_bytes, settings.bypass_loads as usize);
        let tier = match (self.cache_tier.take(), choice) {
            (Some(own), _) => own,
            (None, CacheChoice::Redis) => redis(self)?,
            (None, CacheChoice::Auto) if self.redis.is_some() => redis(self)?,
            (None, CacheChoice::Auto | CacheChoice::None) => return Ok(None),
            (None, CacheChoice::Memory) => Arc::new(MemoryCache::new(max_bytes, Arc::clone(&self.clock))),
        };
        Ok(Some(SharedTier::new(tier, bypass_loads)))
    }

    pub(super) fn limiter(&mut self, keys: &KeyRing) -> Result<Limiter, OpenError> {
        let back_end = match self.rate_limit.take() {
            Some(own) => own,
            None => self.built_in_rate_limit(keys)?,
        };
        Ok(Limiter::new(back_end, &self.settings.rate_limits)?)
    }

    /// Governor, alone or for when Redis is away.
    fn built_in_rate_limit(&mut self, keys: &KeyRing) -> Result<Arc<dyn RateLimit>, OpenError> {
        let settings = &self.settings.rate_limits;
        let shares = Shares { usual: settings.away_percent, login: settings.away_login_percent };
        let memory: Arc<dyn RateLimit> = Arc::new(MemoryRateLimit::new(Arc::clone(&self.clock)));
        match &mut self.redis {
            Some(redis) if settings.back_end != LimitsChoice::Memory => {
                let shared = redis.rate_limit(settings, keys, &self.clock);
                let shared = shared.map_err(|error| OpenError::Redis(error.into()))?;
                Ok(Arc::new(FallbackRateLimit::new(shared, memory, shares)))
            }
            _ => Ok(memory),
        }
    }
}
