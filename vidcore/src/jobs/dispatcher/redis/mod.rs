//! Hints between the processes of one platform: a bounded Redis list per queue.
//!
//! Each hint goes to one worker of the fleet. One that is given while somebody of this very process
//! waits for its queue wakes that one and never sees Redis; every other goes into the list, from
//! which the processes pop it, each only while somebody in it waits: a busy process leaves hints to
//! the idle ones. What Redis does not hold (it was away, it was flushed, the list was full) the
//! sweep finds.
//!
//! Beside SQLite the change check runs too and wakes every process; then the list only makes one of
//! them faster.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio_util::task::AbortOnDropHandle;

use crate::jobs::dispatcher::Dispatcher;
use crate::jobs::{JobHint, QueueName};
use crate::redis::{Outbox, RedisServer};

mod list;
mod popper;
mod waiters;

pub use list::{KEPT_HINTS, KEPT_HINTS_FOR};

use list::{Hint, HintLists};
use popper::Popper;
use waiters::{Waiters, Woken};

/// Hints through Redis, each to one worker of all processes that use the same Redis and prefix.
///
/// Holds three connections: one to send, and, from the first wait on, one that pops and one that
/// calls off the popping. They come back by themselves. The tasks end with the value.
#[derive(Debug)]
pub struct RedisDispatcher {
    shared: Arc<Shared>,
    /// Taken by the first stop.
    popping: Mutex<Option<AbortOnDropHandle<()>>>,
}

/// What the dispatcher, its waits and its popping have in common.
#[derive(Debug)]
struct Shared {
    waiters: Waiters,
    outbox: Outbox<Hint>,
}

impl Shared {
    /// Wakes somebody here, or sends the hint to the others.
    fn pass_on(&self, hint: Hint) {
        let Err(hint) = self.waiters.give(hint) else { return count("local") };
        self.send(hint);
    }

    fn send(&self, hint: Hint) {
        match self.outbox.offer(hint) {
            Ok(()) => count("redis"),
            // Redis is away or slower than what is to be sent. The sweep finds the job.
            Err(_) => count("dropped"),
        }
    }
}

fn count(path: &'static str) {
    metrics::counter!("vid_job_hints_total", "path" => path).increment(1);
}

impl RedisDispatcher {
    /// Starts on the current tokio runtime. Does not wait for Redis, which may come later.
    pub fn start(server: &RedisServer) -> Self {
        let outbox = Outbox::start(server.clone(), HintLists(server.names().clone()));
        let shared = Arc::new(Shared { waiters: Waiters::default(), outbox });
        let popping = tokio::spawn(Popper::new(server.clone(), Arc::clone(&shared)).run());
        Self { shared, popping: Mutex::new(Some(AbortOnDropHandle::new(popping))) }
    }

    /// Sends the hints that were announced and ends the tasks; nobody is woken by Redis any more.
    /// Takes no longer than one connection and one answer may.
    pub async fn stop(&self) {
        drop(self.popping.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.shared.outbox.stop().await;
    }
}

#[async_trait]
impl Dispatcher for RedisDispatcher {
    fn announce(&self, hints: &[JobHint]) {
        for hint in hints {
            self.shared.pass_on(Hint::of(hint));
        }
    }

    fn wake_all(&self) {
        self.shared.waiters.wake_all();
    }

    async fn wait(&self, queues: &[QueueName]) {
        if queues.is_empty() {
            return std::future::pending().await;
        }
        if let Some(turn) = Turn::take(&self.shared, queues) {
            turn.woken().await;
        }
    }
}

/// A place among the waiters. Dropped after it was given a hint that nobody has acted on, it passes
/// the hint on.
struct Turn<'a> {
    shared: &'a Shared,
    number: u64,
    woken: tokio::sync::oneshot::Receiver<Woken>,
}

impl<'a> Turn<'a> {
    /// `None` if there is no need to wait.
    fn take(shared: &'a Shared, queues: &[QueueName]) -> Option<Self> {
        let (number, woken) = shared.waiters.enter(queues)?;
        Some(Self { shared, number, woken })
    }

    async fn woken(mut self) {
        // An error is impossible: the waiters keep the other end until they use it.
        let _ = (&mut self.woken).await;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.shared.waiters.leave(self.number);
        // Closed first: what is not here by now is given to somebody else by whoever has it.
        self.woken.close();
        if let Ok(Woken::ByHint(hint)) = self.woken.try_recv() {
            self.shared.pass_on(hint);
        }
    }
}
