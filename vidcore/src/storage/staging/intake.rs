//! Takes a stream into a staging writer, hashing on the way: the next bytes are read while the last ones are written.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::storage::checksum::RunningChecksum;
use crate::storage::objects::ObjectError;
use crate::store::BoxError;

use super::{Batch, RunningHash, StagingWriter};

/// Bytes that are read while as many are written: what one upload holds in memory, twice.
const BATCH: usize = 256 << 10;

/// A stream on its way into a writer.
pub(crate) struct Intake<S> {
    stream: S,
    /// Bytes that may still come.
    room: u64,
    taken: u64,
    batch: Vec<Bytes>,
    batched: usize,
    state: State,
}

/// Why [`Intake::run`] came back. What had come until then is written, and not committed.
#[derive(Debug)]
pub(crate) enum Pause {
    /// Enough has come, or enough time has passed since the first byte of it.
    Due,
    /// The stream ended.
    Ended,
    /// More came than there is room for; the excess was dropped.
    TooLong,
    /// The stream failed.
    Broken(BoxError),
    /// It was asked to stop.
    Stopped,
}

/// When [`Intake::run`] comes back by itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Until {
    /// After this many bytes.
    pub(crate) bytes: u64,
    /// This long after the first of them.
    pub(crate) time: Duration,
}

impl Until {
    /// Not before the end.
    pub(crate) const END: Self = Self { bytes: u64::MAX, time: Duration::MAX };
}

/// Where the bytes go.
pub(crate) struct Sink {
    pub(crate) writer: Box<dyn StagingWriter>,
    pub(crate) hash: RunningHash,
    pub(crate) checksum: Option<RunningChecksum>,
    /// How many may hash at once.
    pub(crate) permits: Arc<Semaphore>,
}

enum State {
    Idle(Box<Sink>),
    Busy(JoinHandle<(Box<Sink>, Result<(), ObjectError>)>),
    /// Only while it is moved from one to the other.
    Moving,
}

impl<S: Stream<Item = Result<Bytes, BoxError>> + Send + Unpin> Intake<S> {
    /// Takes at most `room` bytes of `stream`.
    pub(crate) fn new(stream: S, room: u64, sink: Sink) -> Self {
        Self { stream, room, taken: 0, batch: Vec::new(), batched: 0, state: State::Idle(Box::new(sink)) }
    }

    /// Takes bytes until there is a reason to pause.
    ///
    /// # Errors
    /// What the writer said; the intake is of no use afterwards.
    pub(crate) async fn run(&mut self, until: Until, stop: &CancellationToken) -> Result<Pause, ObjectError> {
        let (mut taken, mut deadline) = (0_u64, None);
        let pause = loop {
            if taken >= until.bytes {
                break Pause::Due;
            }
            if self.batched >= BATCH {
                self.hand_over().await?;
            }
            let next = tokio::select! {
                biased;
                () = stop.cancelled() => break Pause::Stopped,
                next = self.stream.next() => next,
                () = sleep_until(deadline) => break Pause::Due,
            };
            let bytes = match next {
                None => break Pause::Ended,
                Some(Err(error)) => break Pause::Broken(error),
                Some(Ok(bytes)) if bytes.len() as u64 > self.room => break Pause::TooLong,
                Some(Ok(bytes)) => bytes,
            };
            if deadline.is_none() {
                deadline = Instant::now().checked_add(until.time);
            }
            self.room -= bytes.len() as u64;
            taken += bytes.len() as u64;
            self.taken += bytes.len() as u64;
            self.batched += bytes.len();
            self.batch.push(bytes);
        };
        self.hand_over().await?;
        self.settle().await?;
        Ok(pause)
    }

    /// Bytes taken so far.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// Where the bytes went; after [`run`](Self::run) came back without an error.
    pub(crate) fn sink(&mut self) -> &mut Sink {
        match &mut self.state {
            State::Idle(sink) => sink,
            State::Busy(_) | State::Moving => unreachable!("an intake that came back is idle"),
        }
    }

    /// Gives up what was not committed.
    pub(crate) async fn abandon(mut self) {
        let _ = self.settle().await;
        if let State::Idle(sink) = self.state {
            sink.writer.abandon().await;
        }
    }

    /// Begins to write what has come, once what came before is written.
    async fn hand_over(&mut self) -> Result<(), ObjectError> {
        if self.batched == 0 {
            return Ok(());
        }
        self.settle().await?;
        let batch = Arc::new(std::mem::take(&mut self.batch));
        self.batched = 0;
        if let State::Idle(sink) = std::mem::replace(&mut self.state, State::Moving) {
            self.state = State::Busy(tokio::spawn(sink.take(batch)));
        }
        Ok(())
    }

    async fn settle(&mut self) -> Result<(), ObjectError> {
        // Dropped while it waits, or after a panic, it is of no use: a task is never asked twice.
        let task = match std::mem::replace(&mut self.state, State::Moving) {
            State::Busy(task) => task,
            other => {
                self.state = other;
                return Ok(());
            }
        };
        let operation = "stage bytes";
        let (sink, written) =
            task.await.map_err(|error| ObjectError::Unavailable { operation, source: error.into() })?;
        self.state = State::Idle(sink);
        written
    }
}

impl Sink {
    /// Writes and hashes, side by side.
    async fn take(mut self: Box<Self>, batch: Batch) -> (Box<Self>, Result<(), ObjectError>) {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let (mut hash, mut checksum) = (std::mem::take(&mut self.hash), self.checksum.take());
        let hashed = Arc::clone(&batch);
        let hashing = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            hash.update(&hashed);
            if let Some(checksum) = &mut checksum {
                checksum.update(&hashed);
            }
            (hash, checksum)
        });
        let (written, hashed) = tokio::join!(self.writer.write(&batch), hashing);
        (self.hash, self.checksum) = hashed.expect("hashing does not panic and is not aborted");
        (self, written)
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Segment;

    /// A writer that meets what nobody thought of.
    #[derive(Debug)]
    struct Panics;

    #[async_trait::async_trait]
    impl StagingWriter for Panics {
        async fn write(&mut self, _: &Batch) -> Result<(), ObjectError> {
            panic!("it is meant to");
        }

        async fn commit(&mut self) -> Result<Vec<Segment>, ObjectError> {
            Ok(Vec::new())
        }

        async fn retract(&mut self) {}

        async fn abandon(self: Box<Self>) {}
    }

    #[tokio::test]
    async fn a_writer_that_panics_is_an_error_and_can_be_given_up() {
        let permits = Arc::new(Semaphore::new(1));
        let sink = Sink { writer: Box::new(Panics), hash: RunningHash::default(), checksum: None, permits };
        let bytes = futures_util::stream::iter([Ok(Bytes::from_static(b"bytes"))]);
        let mut intake = Intake::new(bytes, 5, sink);
        let failed = intake.run(Until::END, &CancellationToken::new()).await;
        assert!(matches!(failed, Err(ObjectError::Unavailable { .. })), "{failed:?}");
        intake.abandon().await;
    }
}
