//! Acts on what other processes committed: drops stale copies, wakes the worker.

use std::sync::Arc;

use crate::cache::Invalidator;
use crate::jobs::dispatcher::Dispatcher;
use crate::notify::ChangeListener;
use crate::store::{CommitObserver, Committed};

/// Told by the SQLite change check.
#[derive(Debug)]
pub(super) struct OtherProcesses {
    pub(super) invalidator: Arc<Invalidator>,
    pub(super) dispatcher: Arc<dyn Dispatcher>,
}

impl ChangeListener for OtherProcesses {
    fn changed(&self, committed: &Committed) {
        self.invalidator.committed(committed);
    }

    fn missed(&self) {
        self.invalidator.drop_all();
    }

    fn jobs_due(&self) {
        self.dispatcher.wake_all();
    }
}
