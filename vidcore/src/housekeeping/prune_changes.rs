//! Forgets invalidations that every process has read by now.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::jobs::worker::{JobContext, JobFailure, JobHandler};
use crate::platform::parts::Parts;
use crate::store::Causes;

use super::{ROWS_AT_ONCE, pruned};

pub(super) const KIND: &str = "prune_changes";

/// How long they are kept for processes that read the tail of `changes`.
const KEEP: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub(super) struct PruneChanges(pub(super) Arc<Parts>);

#[async_trait]
impl JobHandler for PruneChanges {
    async fn run(&self, _: JobContext) -> Result<Causes, JobFailure> {
        let before = self.0.now().minus(KEEP);
        pruned(&self.0, KIND, self.0.store.prune_changes(before, ROWS_AT_ONCE).await)
    }
}
