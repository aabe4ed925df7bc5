//! Takes hints out of Redis while somebody in this process waits for them.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use redis::RedisError;
use redis::aio::MultiplexedConnection;

use super::list::Hint;
use super::{Shared, count};
use crate::jobs::QueueName;
use crate::redis::{Backoff, RedisServer, timed_out};

/// How long one pop waits at the server. A connection that died without a word is noticed after this.
const BLOCK: Duration = Duration::from_secs(5);

/// How soon a pop is called off again that did not end: the call may have come before it.
const CALL_OFF_AGAIN: Duration = Duration::from_millis(5);

/// The task that pops.
pub(super) struct Popper {
    server: RedisServer,
    shared: Arc<Shared>,
    backoff: Backoff,
}

/// Connections made together.
struct Link {
    /// Waits at the server, so that nothing else may use it.
    pops: MultiplexedConnection,
    /// Calls a pop off.
    control: MultiplexedConnection,
    /// What the server calls `pops`.
    id: i64,
}

impl Popper {
    pub(super) fn new(server: RedisServer, shared: Arc<Shared>) -> Self {
        let backoff = server.backoff();
        Self { server, shared, backoff }
    }

    /// Runs until it is dropped. A process in which nobody ever waits connects to nothing.
    pub(super) async fn run(mut self) {
        loop {
            let nobody = BTreeSet::new();
            self.shared.waiters.wanted_other_than(&nobody).await;
            let Err(error) = self.pop_while_connected().await;
            if self.backoff.is_fresh() {
                tracing::warn!(%error, connection = "pops", "Redis does not answer; trying again from time to time");
            }
            metrics::counter!("vid_redis_failures_total", "connection" => "pops").increment(1);
            self.backoff.pause().await;
        }
    }

    async fn pop_while_connected(&mut self) -> Result<std::convert::Infallible, RedisError> {
        let mut link = Link::open(&self.server).await?;
        loop {
            let nobody = BTreeSet::new();
            let wanted = self.shared.waiters.wanted_other_than(&nobody).await;
            let popped = self.pop(&mut link, &wanted).await?;
            if !self.backoff.is_fresh() {
                tracing::info!(connection = "pops", "Redis is back");
                self.backoff.reset();
            }
            if let Some(hint) = popped {
                self.hand_over(hint);
            }
        }
    }

    /// One hint of a `wanted` queue; `None` if none came, or if other queues are wanted meanwhile.
    async fn pop(&self, link: &mut Link, wanted: &BTreeSet<QueueName>) -> Result<Option<Hint>, RedisError> {
        let lists: Vec<String> = wanted.iter().map(|queue| self.server.names().hints(queue.as_str())).collect();
        // The first list that is not empty is popped. No queue starves by that: who is woken looks for
        // jobs of all its queues.
        let mut command = redis::cmd("BRPOP");
        command.arg(&lists).arg(BLOCK.as_secs());
        let patience = BLOCK + self.server.response_timeout();
        // Never dropped before it ended, but with the connection: an answer nobody reads is a lost hint.
        let mut pop = pin!(tokio::time::timeout(patience, command.query_async(&mut link.pops)));
        let answer: Option<(String, String)> = tokio::select! {
            answer = &mut pop => answer.unwrap_or_else(|_| Err(timed_out()))?,
            _ = self.shared.waiters.wanted_other_than(wanted) => {
                let call_off = call_off(&mut link.control, link.id);
                tokio::select! {
                    answer = &mut pop => answer.unwrap_or_else(|_| Err(timed_out()))?,
                    error = call_off => return Err(error),
                }
            }
        };
        Ok(answer.and_then(|(list, job)| {
            let position = lists.iter().position(|name| *name == list)?;
            wanted.iter().nth(position).map(|queue| Hint { queue: queue.clone(), job })
        }))
    }

    /// Wakes the one who waits; who has gone meanwhile does not keep the hint from other processes.
    fn hand_over(&self, hint: Hint) {
        match self.shared.waiters.give(hint) {
            Ok(()) => count("popped"),
            Err(hint) => {
                count("returned");
                self.shared.send(hint);
            }
        }
    }
}

impl Link {
    async fn open(server: &RedisServer) -> Result<Self, RedisError> {
        let (mut pops, control) = tokio::try_join!(server.connect_for_waiting(), server.connect())?;
        let asking = redis::cmd("CLIENT").arg("ID").to_owned();
        let id = tokio::time::timeout(server.response_timeout(), asking.query_async(&mut pops))
            .await
            .unwrap_or_else(|_| Err(timed_out()))?;
        Ok(Self { pops, control, id })
    }
}

/// Calls the pop off until this future is dropped because it ended. Returns what kept it from doing so.
async fn call_off(control: &mut MultiplexedConnection, id: i64) -> RedisError {
    loop {
        let called_off: Result<i64, _> = redis::cmd("CLIENT").arg("UNBLOCK").arg(id).query_async(control).await;
        if let Err(error) = called_off {
            return error;
        }
        tokio::time::sleep(CALL_OFF_AGAIN).await;
    }
}
