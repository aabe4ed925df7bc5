//! Hints within one process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::future::select_all;
use tokio::sync::Notify;

use crate::jobs::dispatcher::Dispatcher;
use crate::jobs::{JobHint, QueueName};

/// One [`Notify`] per queue: each hint wakes one waiter.
#[derive(Debug, Default)]
pub struct LocalDispatcher {
    queues: Mutex<HashMap<QueueName, Arc<Notify>>>,
}

impl LocalDispatcher {
    /// A dispatcher nobody waits on yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn queue(&self, name: &QueueName) -> Arc<Notify> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(queues.entry(name.clone()).or_default())
    }
}

#[async_trait]
impl Dispatcher for LocalDispatcher {
    fn announce(&self, hints: &[JobHint]) {
        for hint in hints {
            self.queue(&hint.queue).notify_one();
        }
    }

    fn wake_all(&self) {
        for queue in self.queues.lock().unwrap_or_else(PoisonError::into_inner).values() {
            // Those who wait now are woken; the permit is for one who is about to.
            queue.notify_waiters();
            queue.notify_one();
        }
    }

    async fn wait(&self, queues: &[QueueName]) {
        if queues.is_empty() {
            return std::future::pending().await;
        }
        let notifies: Vec<Arc<Notify>> = queues.iter().map(|name| self.queue(name)).collect();
        select_all(notifies.iter().map(|notify| Box::pin(notify.notified()))).await;
    }
}
