//! Forgets viewers of whom another view would be counted by now.

use std::sync::Arc;

use async_trait::async_trait;

use crate::catalog::popularity::VIEW_WINDOW;
use crate::jobs::worker::{JobContext, JobFailure, JobHandler};
use crate::platform::parts::Parts;
use crate::store::Causes;

use super::ended;

pub(super) const KIND: &str = "prune_viewers";

/// Rows that one job deletes: small ones, of which there may be as many as there were views in half an hour.
const VIEWERS_AT_ONCE: u16 = 2000;

#[derive(Debug)]
pub(super) struct PruneViewers(pub(super) Arc<Parts>);

#[async_trait]
impl JobHandler for PruneViewers {
    async fn run(&self, _: JobContext) -> Result<Causes, JobFailure> {
        let before = self.0.now().minus(VIEW_WINDOW);
        let gone = self.0.store.prune_viewers(before, VIEWERS_AT_ONCE).await;
        let gone = gone.map_err(|error| JobFailure::Retry(error.into()))?;
        Ok(ended(&self.0, KIND, gone >= u64::from(VIEWERS_AT_ONCE)))
    }
}
