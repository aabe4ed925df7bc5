//! Commands that leave by themselves: a bounded channel, and a task that sends what is in it, many
//! at a time.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Pipeline, RedisError};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::redis::{Backoff, RedisServer, is_refusal};

/// Items that may wait. While Redis is away they fill up and further ones are dropped.
const ROOM: usize = 4096;

/// The most items of one round trip.
const BATCH: usize = 512;

/// What an outbox carries, and how it becomes commands.
pub(crate) trait Cargo: Send + 'static {
    /// One of it.
    type Item: Send + Sync + 'static;

    /// The name of the connection in logs and metrics.
    const NAME: &'static str;

    /// The commands that deliver `items`. Called again if they have to be sent again.
    fn pack(&mut self, items: &[Self::Item]) -> Pipeline;

    /// What was packed last has arrived.
    fn delivered(&mut self) {}

    /// What was packed last was refused and is not sent again.
    fn refused(&mut self, _items: usize) {}

    /// How long nothing may be sent before something is all the same. `None`: for ever.
    fn longest_silence(&self) -> Option<Duration> {
        None
    }
}

/// The near end: takes items without waiting.
///
/// A batch whose fate is unknown (the connection broke, the answer did not come in time) is sent again,
/// so that an item may arrive twice; one that the server refuses is dropped. Items that find no room
/// are not taken.
#[derive(Debug)]
pub(crate) struct Outbox<T> {
    items: mpsc::Sender<T>,
    stop: CancellationToken,
    /// Taken by the first stop.
    task: Mutex<Option<AbortOnDropHandle<()>>>,
    /// How long the end may take.
    patience: Duration,
}

impl<T: Send + Sync + 'static> Outbox<T> {
    /// Starts the task on the current tokio runtime; it ends with the value.
    pub(crate) fn start<C: Cargo<Item = T>>(server: RedisServer, cargo: C) -> Self {
        let (items, waiting) = mpsc::channel(ROOM);
        let stop = CancellationToken::new();
        let (backoff, patience) = (server.backoff(), server.longest_exchange());
        let stop_carrier = stop.clone();
        let carrier =
            Carrier { server, cargo, waiting, backoff, connection: None, complained: false, stop: stop_carrier };
        let task = Mutex::new(Some(AbortOnDropHandle::new(tokio::spawn(carrier.run()))));
        Self { items, stop, task, patience }
    }

    /// Takes `item`, or gives it back if there is no room. Does not block.
    pub(crate) fn offer(&self, item: T) -> Result<(), T> {
        self.items.try_send(item).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(item) | mpsc::error::TrySendError::Closed(item) => item,
        })
    }

    /// Sends what is waiting, but nothing a second time, and ends the task. Waits for as long as one
    /// connection and one answer may take.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            // What is not sent by then is lost, as anything here may be.
            let _ = tokio::time::timeout(self.patience, task).await;
        }
    }
}

struct Carrier<C: Cargo> {
    server: RedisServer,
    cargo: C,
    waiting: mpsc::Receiver<C::Item>,
    backoff: Backoff,
    connection: Option<MultiplexedConnection>,
    /// Whether the last batch was refused: a server that refuses all of them is complained about once.
    complained: bool,
    stop: CancellationToken,
}

impl<C: Cargo> Carrier<C> {
    async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            if !self.collect(&mut batch).await {
                return;
            }
            while let Err(error) = self.deliver(&batch).await {
                if is_refusal(&error) {
                    self.refused(&error, batch.len());
                    break;
                }
                self.lost(&error);
                if self.stop.is_cancelled() {
                    return;
                }
                self.pause().await;
            }
            batch.clear();
        }
    }

    /// Waits for something to send; false when there will be nothing more.
    async fn collect(&mut self, batch: &mut Vec<C::Item>) -> bool {
        let silence = self.cargo.longest_silence();
        tokio::select! {
            // First what is there, then the end.
            biased;
            received = self.waiting.recv_many(batch, BATCH) => received > 0,
            () = self.stop.cancelled() => false,
            () = async { tokio::time::sleep(silence.unwrap_or_default()).await }, if silence.is_some() => true,
        }
    }

    async fn deliver(&mut self, batch: &[C::Item]) -> Result<(), RedisError> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(self.server.connect().await?),
        };
        self.cargo.pack(batch).query_async::<()>(connection).await?;
        if !self.backoff.is_fresh() {
            tracing::info!(connection = C::NAME, "Redis is back");
        }
        self.backoff.reset();
        self.complained = false;
        self.cargo.delivered();
        Ok(())
    }

    fn refused(&mut self, error: &RedisError, items: usize) {
        if !self.complained {
            tracing::warn!(%error, connection = C::NAME, items, "Redis refuses what is sent; it is dropped");
        }
        self.complained = true;
        self.backoff.reset();
        self.cargo.refused(items);
    }

    fn lost(&mut self, error: &RedisError) {
        if self.backoff.is_fresh() {
            tracing::warn!(%error, connection = C::NAME, "Redis does not answer; trying again from time to time");
        }
        metrics::counter!("vid_redis_failures_total", "connection" => C::NAME).increment(1);
        self.connection = None;
    }

    async fn pause(&mut self) {
        tokio::select! {
            () = self.backoff.pause() => {}
            // What waits is tried once more.
            () = self.stop.cancelled() => {}
        }
    }
}
