//! Hints that there is work: best effort, never the truth.

use std::fmt;

use async_trait::async_trait;

use crate::jobs::{JobHint, QueueName};

pub mod local;
#[cfg(feature = "redis")]
pub mod redis;

pub use local::LocalDispatcher;
#[cfg(feature = "redis")]
pub use redis::RedisDispatcher;

/// Carries hints from those who enqueue to those who claim.
///
/// # Contract
/// * A hint may be lost, doubled or late; a worker that waits also sweeps.
/// * A hint given while nobody waits is kept for the next waiter of its queue (one is enough).
#[async_trait]
pub trait Dispatcher: fmt::Debug + Send + Sync + 'static {
    /// Passes hints on. Does not block.
    fn announce(&self, hints: &[JobHint]);

    /// Wakes every waiter: something changed, nobody knows what.
    fn wake_all(&self);

    /// Waits until one of these queues may have work.
    ///
    /// # Cancel safety
    /// Dropping the future loses no hint for other waiters; one it had just taken may be lost.
    async fn wait(&self, queues: &[QueueName]);
}
