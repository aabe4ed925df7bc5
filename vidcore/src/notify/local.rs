//! News within one process.

use std::time::Duration;

use tokio::sync::broadcast;

use crate::notify::{Notice, Notify};

/// How far a subscriber may fall behind before it misses news.
const CAPACITY: usize = 1024;

/// A broadcast channel.
#[derive(Debug)]
pub struct LocalNotify {
    sender: broadcast::Sender<Notice>,
}

impl LocalNotify {
    /// A channel nobody listens to yet.
    pub fn new() -> Self {
        Self { sender: broadcast::Sender::new(CAPACITY) }
    }
}

impl Default for LocalNotify {
    fn default() -> Self {
        Self::new()
    }
}

impl Notify for LocalNotify {
    fn publish(&self, notice: Notice) {
        // An error means nobody listens, which is fine.
        let _ = self.sender.send(notice);
    }

    fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.sender.subscribe()
    }

    fn silence(&self) -> Duration {
        Duration::ZERO
    }
}
