//! Acts on what other processes committed: drops stale copies, wakes the worker.

use std::sync::Arc;

use crate::cache::Caches;
use crate::jobs::worker::AnnounceJobs;
use crate::notify::ChangeListener;
use crate::store::{CommitObserver, Committed};

/// Told by the SQLite change check.
#[derive(Debug)]
pub(super) struct OtherProcesses {
    pub(super) caches: Arc<Caches>,
    pub(super) announce: AnnounceJobs,
}

impl ChangeListener for OtherProcesses {
    fn changed(&self, committed: &Committed) {
        self.caches.committed(committed);
        // It carries no hints, but may say that a queue goes on.
        self.announce.committed(committed);
    }

    fn missed(&self, up_to: i64) {
        self.caches.drop_all(up_to);
    }

    fn jobs_due(&self) {
        self.announce.0.wake_all();
    }
}
