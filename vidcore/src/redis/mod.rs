//! Redis: where it is, how to reach it, and how to go on without it.
//!
//! Nothing here is asked what is true. Hints and notices leave through an `Outbox`: they may be lost,
//! doubled or late, and whoever sends does not wait. What is cached and counted goes through a `Link`,
//! whose users can go on without an answer.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::{MultiplexedConnection, PubSub};
use ::redis::{AsyncConnectionConfig, Client, RedisError};

use crate::entropy::{Entropy, EntropyExt};
use crate::platform::settings::RedisSettings;

mod backoff;
mod breaker;
mod link;
mod outbox;

pub(crate) use backoff::Backoff;
pub(crate) use link::{Link, LinkError};
pub(crate) use outbox::{Cargo, Outbox};

/// The version of the layout of keys and messages, part of every name: processes of another layout
/// neither read nor write the same ones.
const LAYOUT: &str = "v1";

/// Why settings of Redis cannot be used. Names no value: the URL may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {message}")]
pub struct RedisSettingsError {
    /// The setting, such as `redis.url`.
    pub setting: &'static str,
    /// What it should be.
    pub message: &'static str,
}

/// A Redis server as this platform uses it. Clones are cheap; opening one connects to nothing.
#[derive(Clone)]
pub struct RedisServer {
    client: Client,
    names: Names,
    connect_timeout: Duration,
    response_timeout: Duration,
    entropy: Arc<dyn Entropy>,
}

impl RedisServer {
    /// The server that `settings` name. `entropy` spreads attempts to reconnect over time.
    ///
    /// # Errors
    /// [`RedisSettingsError`] for the first setting that cannot be used.
    pub fn new(settings: &RedisSettings, entropy: Arc<dyn Entropy>) -> Result<Self, RedisSettingsError> {
        let wrong = |setting, message| Err(RedisSettingsError { setting, message });
        let url = settings.url.expose();
        // TLS is not built in; said here, because the client would say so at every attempt to connect.
        if !(url.starts_with("redis://") || url.starts_with("valkey://")) {
            return wrong("redis.url", "expected redis://[[user]:password@]host[:port][/db]");
        }
        let Ok(client) = Client::open(url) else {
            return wrong("redis.url", "expected redis://[[user]:password@]host[:port][/db]");
        };
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if settings.prefix.is_empty() || !settings.prefix.bytes().all(allowed) {
            return wrong("redis.prefix", "expected letters, digits, `-`, `_` and `.`");
        }
        if settings.connect_timeout_ms == 0 {
            return wrong("redis.connect_timeout_ms", "expected at least 1");
        }
        if settings.response_timeout_ms == 0 {
            return wrong("redis.response_timeout_ms", "expected at least 1");
        }
        Ok(Self {
            client,
            names: Names(format!("{}:{LAYOUT}", settings.prefix).into()),
            connect_timeout: Duration::from_millis(settings.connect_timeout_ms),
            response_timeout: Duration::from_millis(settings.response_timeout_ms),
            entropy,
        })
    }

    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    pub(crate) fn response_timeout(&self) -> Duration {
        self.response_timeout
    }

    /// The longest it takes to connect and to have one answer.
    pub(crate) fn longest_exchange(&self) -> Duration {
        self.connect_timeout + self.response_timeout
    }

    /// Eight random bytes in hexadecimal, to tell this process's messages from others'.
    pub(crate) fn sender_id(&self) -> String {
        hex::encode(self.entropy.bytes::<8>())
    }

    pub(crate) fn backoff(&self) -> Backoff {
        Backoff::new(Arc::clone(&self.entropy))
    }

    /// A connection whose every answer is waited for as long as the settings say.
    pub(crate) async fn connect(&self) -> Result<MultiplexedConnection, RedisError> {
        self.connect_with(Some(self.response_timeout)).await
    }

    /// A connection for commands that wait at the server: whoever sends one bounds its answer.
    pub(crate) async fn connect_for_waiting(&self) -> Result<MultiplexedConnection, RedisError> {
        self.connect_with(None).await
    }

    /// A connection that hears `channel`.
    pub(crate) async fn subscribe(&self, channel: &str) -> Result<PubSub, RedisError> {
        self.in_time(async {
            let mut news = self.client.get_async_pubsub().await?;
            news.subscribe(channel).await?;
            Ok(news)
        })
        .await
    }

    async fn connect_with(&self, response_timeout: Option<Duration>) -> Result<MultiplexedConnection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            .set_response_timeout(response_timeout);
        self.in_time(self.client.get_multiplexed_async_connection_with_config(&config)).await
    }

    /// The client bounds some steps of connecting by itself; this bounds all of them together.
    async fn in_time<T>(&self, connecting: impl Future<Output = Result<T, RedisError>>) -> Result<T, RedisError> {
        tokio::time::timeout(self.connect_timeout, connecting).await.unwrap_or_else(|_| Err(timed_out()))
    }
}

impl fmt::Debug for RedisServer {
    /// Leaves out the client, which knows the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisServer").field("names", &self.names).finish_non_exhaustive()
    }
}

/// The names of keys and channels of one platform.
#[derive(Debug, Clone)]
pub(crate) struct Names(Arc<str>);

impl Names {
    /// The list of hints for the queue `queue`.
    pub(crate) fn hints(&self, queue: &str) -> String {
        format!("{}:hints:{queue}", self.0)
    }

    /// What is left of a budget: of the subject with this hash, under the policy with these numbers.
    pub(crate) fn limit(&self, policy: &str, burst: u32, period_us: u64, subject: &str) -> String {
        format!("{}:limit:{policy}:{burst}x{period_us}:{subject}", self.0)
    }

    /// What all keys of the cache begin with, by the version of what it keeps.
    pub(crate) fn cache(&self, schema: u16) -> String {
        format!("{}:cache{schema}", self.0)
    }

    /// The channel of notices.
    pub(crate) fn notices(&self) -> String {
        format!("{}:notices", self.0)
    }
}

/// An answer that did not come.
pub(crate) fn timed_out() -> RedisError {
    io::Error::from(io::ErrorKind::TimedOut).into()
}

/// A connection that ended.
pub(crate) fn closed() -> RedisError {
    io::Error::from(io::ErrorKind::UnexpectedEof).into()
}

/// Whether the server refused a command over a connection that works, and would refuse it again.
pub(crate) fn is_refusal(error: &RedisError) -> bool {
    use ::redis::{ErrorKind, ServerErrorKind};
    match error.kind() {
        // A server that has just started, or a replica that is about to be promoted.
        ErrorKind::Server(
            ServerErrorKind::BusyLoading
            | ServerErrorKind::TryAgain
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ReadOnly,
        ) => false,
        ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::UnexpectedReturnType => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SystemEntropy;
    use crate::platform::settings::Secret;

    fn refused(change: impl FnOnce(&mut RedisSettings)) -> Option<&'static str> {
        let mut settings = RedisSettings { url: Secret::new("redis://:hunter2@127.0.0.1:1/3"), ..Default::default() };
        change(&mut settings);
        RedisServer::new(&settings, Arc::new(SystemEntropy)).err().map(|error| error.setting)
    }

    #[test]
    fn each_setting_that_cannot_be_used_is_named() {
        assert_eq!(None, refused(|_| {}));
        for url in ["", "127.0.0.1:6379", "rediss://127.0.0.1", "http://127.0.0.1", "redis://host:port"] {
            assert_eq!(Some("redis.url"), refused(|settings| settings.url = Secret::new(url)), "{url}");
        }
        assert_eq!(Some("redis.prefix"), refused(|settings| settings.prefix.clear()));
        assert_eq!(Some("redis.prefix"), refused(|settings| settings.prefix = "a:b".to_owned()));
        assert_eq!(Some("redis.connect_timeout_ms"), refused(|settings| settings.connect_timeout_ms = 0));
        assert_eq!(Some("redis.response_timeout_ms"), refused(|settings| settings.response_timeout_ms = 0));
    }

    #[test]
    fn a_server_is_printed_without_its_password() {
        let settings = RedisSettings { url: Secret::new("redis://:hunter2@127.0.0.1:1"), ..Default::default() };
        let server = RedisServer::new(&settings, Arc::new(SystemEntropy)).expect("the settings are right");
        assert!(!format!("{server:?} {settings:?}").contains("hunter2"));
    }
}
