//! A build without Redis: settings that name one are refused.

use std::convert::Infallible;
use std::sync::Arc;

use crate::cache::CacheTier;
use crate::clock::Clock;
use crate::entropy::Entropy;
use crate::jobs::dispatcher::Dispatcher;
use crate::keys::KeyRing;
use crate::notify::Notify;
use crate::platform::settings::RateLimitSettings;
use crate::platform::{OpenError, Settings};
use crate::rate_limit::{LimitError, RateLimit};

/// Nothing; there is no such value.
#[derive(Debug)]
pub(in crate::platform) struct RedisParts(Infallible);

impl RedisParts {
    pub(in crate::platform) fn open(settings: &Settings, _: &Arc<dyn Entropy>) -> Result<Option<Self>, OpenError> {
        if super::is_wanted(settings)? {
            let message = "this program is built without the feature `redis`".to_owned();
            return Err(OpenError::Setting { setting: "redis.url", message });
        }
        Ok(None)
    }

    pub(in crate::platform) fn dispatcher(&self) -> Option<Arc<dyn Dispatcher>> {
        match self.0 {}
    }

    pub(in crate::platform) fn cache(
        &mut self,
        _: &Settings,
        _: &Arc<dyn Clock>,
    ) -> Result<Arc<dyn CacheTier>, OpenError> {
        match self.0 {}
    }

    pub(in crate::platform) fn notify(&mut self, _: Option<Arc<dyn Notify>>) -> Arc<dyn Notify> {
        match self.0 {}
    }

    pub(in crate::platform) fn rate_limit(
        &mut self,
        _: &RateLimitSettings,
        _: &KeyRing,
        _: &Arc<dyn Clock>,
    ) -> Result<Arc<dyn RateLimit>, LimitError> {
        match self.0 {}
    }

    pub(in crate::platform) fn trouble(&self) -> Option<String> {
        match self.0 {}
    }

    pub(in crate::platform) async fn stop(&self) {
        match self.0 {}
    }
}
