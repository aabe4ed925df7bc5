//! Forgets jobs that ended long enough ago, with their attempts.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::jobs::worker::{JobContext, JobFailure, JobHandler};
use crate::jobs::{JobError, JobRetention};
use crate::platform::parts::Parts;
use crate::store::{Causes, StoreError};

use super::{ROWS_AT_ONCE, pruned};

pub(super) const KIND: &str = "prune_jobs";

#[derive(Debug)]
pub(super) struct PruneJobs(pub(super) Arc<Parts>);

#[async_trait]
impl JobHandler for PruneJobs {
    async fn run(&self, _: JobContext) -> Result<Causes, JobFailure> {
        let (now, keep) = (self.0.now(), &self.0.settings.jobs);
        let retention = JobRetention {
            done_before: now.minus(Duration::from_secs(keep.keep_done_s)),
            dead_before: now.minus(Duration::from_secs(keep.keep_dead_s)),
        };
        let gone = self.0.store.prune_jobs(retention, ROWS_AT_ONCE).await.map_err(|error| match error {
            JobError::Store(error) => error,
            other => StoreError::Defect { operation: "forget ended jobs", source: other.into() },
        });
        pruned(&self.0, KIND, gone)
    }
}
