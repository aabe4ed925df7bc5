//! Commands whose answers are waited for: each for a bounded time, and none while the server is known
//! to be away.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use ::redis::aio::{ConnectionManager, ConnectionManagerConfig};
use ::redis::{Client, FromRedisValue, RedisError};

use crate::clock::Clock;
use crate::redis::breaker::{Breaker, OPENS_AT, Turn};
use crate::redis::{RedisServer, is_refusal, timed_out};

/// Pauses between attempts to connect, from the first to the longest; each is drawn at random.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Another connection is tried when the breaker opens, and after so many further failures: not after each,
/// as connecting may take longer than one call is waited for.
const RENEWED_EVERY: u32 = 10;

/// Why there is no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum LinkError {
    /// The server is away and was not asked.
    #[error("Redis is away and was not asked")]
    Open,
    /// It was asked, and failed, refused or did not answer in time.
    #[error("Redis did not answer")]
    Redis(#[source] RedisError),
}

/// One connection shared by all its users, which comes back by itself, and a breaker before it.
#[derive(Clone)]
pub(crate) struct Link {
    inner: Arc<Inner>,
}

struct Inner {
    /// Until the link is closed.
    connection: RwLock<Option<ConnectionManager>>,
    client: Client,
    config: ConnectionManagerConfig,
    /// Since the last answer.
    failures: AtomicU32,
    breaker: Breaker,
    patience: Duration,
    name: &'static str,
}

impl Link {
    /// A link that connects at the first command. Each command has `patience`, from the call to its
    /// answer. `name` is what logs and metrics call it. Needs a tokio runtime.
    pub(crate) fn new(
        server: &RedisServer,
        name: &'static str,
        patience: Duration,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, RedisError> {
        // One bound around everything, connecting included, instead of one in each place.
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(None)
            .set_connection_timeout(Some(server.connect_timeout))
            .set_min_delay(FIRST_PAUSE)
            .set_max_delay(LONGEST_PAUSE)
            .set_number_of_retries(3);
        let client = server.client.clone();
        let connection = ConnectionManager::new_lazy_with_config(client.clone(), config.clone())?;
        let inner = Inner {
            connection: RwLock::new(Some(connection)),
            client,
            config,
            failures: AtomicU32::new(0),
            breaker: Breaker::new(clock, Arc::clone(&server.entropy)),
            patience,
            name,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Runs `command` over the connection.
    ///
    /// # Errors
    /// [`LinkError`], at the latest when the patience has ended. The server may carry the command out
    /// all the same.
    ///
    /// # Cancel safety
    /// Dropped half way, the command may or may not have been carried out; nothing is left in disorder.
    pub(crate) async fn run<T: FromRedisValue>(
        &self,
        command: impl AsyncFnOnce(&mut ConnectionManager) -> Result<T, RedisError>,
    ) -> Result<T, LinkError> {
        let Some(connection) = self.connection() else { return Err(LinkError::Open) };
        if !self.inner.breaker.is_closed() {
            self.probe_if_due(connection);
            return Err(LinkError::Open);
        }
        self.ask(connection, command).await
    }

    /// Asks an open breaker's server in the background: while it is frozen, a caller who did would wait out
    /// all of the patience, once per pause and process.
    fn probe_if_due(&self, connection: ConnectionManager) {
        if self.inner.breaker.lets_through() {
            let link = self.clone();
            // Ends by itself, within the patience; what comes of it is reported to the breaker.
            tokio::spawn(async move {
                let ping =
                    async |connection: &mut ConnectionManager| ::redis::cmd("PING").query_async(connection).await;
                let _: Result<(), LinkError> = link.ask(connection, ping).await;
            });
        }
    }

    async fn ask<T: FromRedisValue>(
        &self,
        mut connection: ConnectionManager,
        command: impl AsyncFnOnce(&mut ConnectionManager) -> Result<T, RedisError>,
    ) -> Result<T, LinkError> {
        let Inner { breaker, patience, .. } = &*self.inner;
        let answer = tokio::time::timeout(*patience, command(&mut connection)).await;
        match answer.unwrap_or_else(|_| Err(timed_out())) {
            Ok(value) => {
                self.inner.failures.store(0, Ordering::Relaxed);
                self.note(breaker.succeeded(), None);
                Ok(value)
            }
            // A server that refuses is there.
            Err(error) if is_refusal(&error) => {
                self.inner.failures.store(0, Ordering::Relaxed);
                self.note(breaker.succeeded(), None);
                Err(LinkError::Redis(error))
            }
            Err(error) => {
                metrics::counter!("vid_redis_failures_total", "connection" => self.inner.name).increment(1);
                self.note(breaker.failed(), Some(&error));
                if self.inner.failures.fetch_add(1, Ordering::Relaxed) % RENEWED_EVERY == OPENS_AT - 1 {
                    self.renew();
                }
                Err(LinkError::Redis(error))
            }
        }
    }

    /// Ends the connection. From now on the server is not asked.
    pub(crate) fn close(&self) {
        drop(self.inner.connection.write().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Begins anew with another connection: a network that lost one without telling anybody answers on that
    /// one never again.
    fn renew(&self) {
        let Inner { client, config, .. } = &*self.inner;
        let Ok(fresh) = ConnectionManager::new_lazy_with_config(client.clone(), config.clone()) else { return };
        if let Some(connection) = self.inner.connection.write().unwrap_or_else(PoisonError::into_inner).as_mut() {
            *connection = fresh;
        }
    }

    fn connection(&self) -> Option<ConnectionManager> {
        self.inner.connection.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the server is asked as usual.
    pub(crate) fn is_closed(&self) -> bool {
        self.inner.breaker.is_closed()
    }

    fn note(&self, turn: Turn, error: Option<&RedisError>) {
        let connection = self.inner.name;
        match turn {
            Turn::None => return,
            Turn::Opened => {
                let error = error.map(ToString::to_string);
                tracing::warn!(connection, error, "Redis does not answer; going on without it for now");
            }
            Turn::Closed => tracing::info!(connection, "Redis is back"),
        }
        let is_open = if turn == Turn::Opened { 1.0 } else { 0.0 };
        metrics::gauge!("vid_redis_breaker_open", "connection" => connection).set(is_open);
    }
}

impl fmt::Debug for Link {
    /// Leaves out the connection, which knows the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("name", &self.inner.name)
            .field("patience", &self.inner.patience)
            .field("breaker", &self.inner.breaker)
            .finish_non_exhaustive()
    }
}
