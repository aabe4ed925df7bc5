//! Forgets refresh tokens and sessions that have expired.

use std::sync::Arc;

use async_trait::async_trait;

use crate::jobs::worker::{JobContext, JobFailure, JobHandler};
use crate::platform::parts::Parts;
use crate::store::Causes;

use super::{ROWS_AT_ONCE, pruned};

pub(super) const KIND: &str = "prune_sessions";

#[derive(Debug)]
pub(super) struct PruneSessions(pub(super) Arc<Parts>);

#[async_trait]
impl JobHandler for PruneSessions {
    async fn run(&self, _: JobContext) -> Result<Causes, JobFailure> {
        pruned(&self.0, KIND, self.0.store.prune_sessions(self.0.now(), ROWS_AT_ONCE).await)
    }
}
