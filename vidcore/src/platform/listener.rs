//! Acts on what other processes committed: drops stale copies, wakes the worker.

use std::sync::Arc;

use crate::cache::Invalidator;
use crate::jobs::worker::AnnounceJobs;
use crate::notify::ChangeListener;
use crate::store::{CommitObserver, Committed};

/// Told by the SQLite change check.
#[derive(Debug)]
pub(super) struct OtherProcesses {
    pub(super) invalidator: Arc<Invalidator>,
    pub(super) announce: AnnounceJobs,
}

impl ChangeListener for OtherProcesses {
    fn changed(&self, committed: &Committed) {
        self.invalidator.committed(committed);
        // It carries no hints, but may say that a queue goes on.
        self.announce.committed(committed);
    }

    fn missed(&self) {
        self.invalidator.drop_all();
    }

    fn jobs_due(&self) {
        self.announce.0.wake_all();
    }
}
