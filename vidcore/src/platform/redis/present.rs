//! A build with Redis.

use std::sync::Arc;
use std::time::Duration;

use crate::cache::{CacheTier, MAX_SILENCE, RedisCache};
use crate::clock::Clock;
use crate::entropy::Entropy;
use crate::jobs::dispatcher::{Dispatcher, RedisDispatcher};
use crate::keys::KeyRing;
use crate::notify::{Notify, RedisNotify};
use crate::platform::settings::{DispatcherChoice, RateLimitSettings};
use crate::platform::{OpenError, Settings};
use crate::rate_limit::{LimitError, RateLimit, RedisRateLimit};
use crate::redis::RedisServer;

/// The back ends that one platform has in Redis.
#[derive(Debug)]
pub(in crate::platform) struct RedisParts {
    server: RedisServer,
    /// Unless hints are to stay within the process.
    dispatcher: Option<Arc<RedisDispatcher>>,
    /// From the opening of the store on.
    notify: Option<Arc<RedisNotify>>,
    /// Unless limits are kept within the process.
    rate_limit: Option<Arc<RedisRateLimit>>,
    /// Unless each process caches for itself.
    cache: Option<RedisCache>,
}

impl RedisParts {
    /// As the settings say; `None` if they name no Redis. Does not wait for it: it may come later.
    pub(in crate::platform) fn open(
        settings: &Settings,
        entropy: &Arc<dyn Entropy>,
    ) -> Result<Option<Self>, OpenError> {
        if !super::is_wanted(settings)? {
            return Ok(None);
        }
        let server = RedisServer::new(&settings.redis, Arc::clone(entropy))
            .map_err(|error| OpenError::Setting { setting: error.setting, message: error.message.to_owned() })?;
        let dispatcher = match settings.worker.dispatcher {
            DispatcherChoice::Auto | DispatcherChoice::Redis => Some(Arc::new(RedisDispatcher::start(&server))),
            DispatcherChoice::Local => None,
        };
        Ok(Some(Self { server, dispatcher, notify: None, rate_limit: None, cache: None }))
    }

    /// What carries hints, if Redis does.
    pub(in crate::platform) fn dispatcher(&self) -> Option<Arc<dyn Dispatcher>> {
        self.dispatcher.clone().map(|dispatcher| dispatcher as Arc<dyn Dispatcher>)
    }

    /// What processes share of what they have cached.
    pub(in crate::platform) fn cache(
        &mut self,
        settings: &Settings,
        clock: &Arc<dyn Clock>,
    ) -> Result<Arc<dyn CacheTier>, OpenError> {
        let patience = Duration::from_millis(settings.cache.redis_timeout_ms);
        let cache = RedisCache::new(&self.server, patience, Arc::clone(clock))
            .map_err(|error| OpenError::Setting { setting: "redis.url", message: error.to_string() })?;
        self.cache = Some(cache.clone());
        Ok(Arc::new(cache))
    }

    /// What carries notices, beside the way that the store brings with it, if any.
    pub(in crate::platform) fn notify(&mut self, other: Option<Arc<dyn Notify>>) -> Arc<dyn Notify> {
        let notify = Arc::new(match other {
            Some(other) => RedisNotify::beside(&self.server, other),
            None => RedisNotify::start(&self.server),
        });
        self.notify = Some(Arc::clone(&notify));
        notify
    }

    /// Limits that all processes share.
    pub(in crate::platform) fn rate_limit(
        &mut self,
        settings: &RateLimitSettings,
        keys: &KeyRing,
        clock: &Arc<dyn Clock>,
    ) -> Result<Arc<dyn RateLimit>, LimitError> {
        let patience = Duration::from_millis(settings.redis_timeout_ms);
        let limits = Arc::new(RedisRateLimit::new(&self.server, keys.clone(), patience, Arc::clone(clock))?);
        self.rate_limit = Some(Arc::clone(&limits));
        Ok(limits)
    }

    /// What is wrong, if nothing comes through Redis: every beat goes there and back, and every limit is
    /// decided there.
    pub(in crate::platform) fn trouble(&self) -> Option<String> {
        let silence = self.notify.as_ref().map(|notify| notify.redis_silence()).unwrap_or_default();
        if silence > MAX_SILENCE {
            return Some(format!("nothing heard for {} ms", silence.as_millis()));
        }
        let is_alone = self.rate_limit.as_ref().is_some_and(|limits| !limits.is_there());
        is_alone.then(|| "limits are decided by each process alone".to_owned())
    }

    /// Sends what is waiting and ends tasks and connections.
    pub(in crate::platform) async fn stop(&self) {
        let hints = async {
            if let Some(dispatcher) = &self.dispatcher {
                dispatcher.stop().await;
            }
        };
        let notices = async {
            if let Some(notify) = &self.notify {
                notify.stop().await;
            }
        };
        tokio::join!(hints, notices);
        if let Some(limits) = &self.rate_limit {
            limits.close();
        }
        if let Some(cache) = &self.cache {
            cache.close();
        }
    }
}
