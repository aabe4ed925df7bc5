//! Moves uploads whose time is over to `expired` and deletes what had come of them.

use std::sync::Arc;

use async_trait::async_trait;

use crate::jobs::worker::{JobContext, JobFailure, JobHandler};
use crate::platform::parts::Parts;
use crate::storage::Uploads;
use crate::store::Causes;

use super::ended;

pub(super) const KIND: &str = "expire_uploads";

#[derive(Debug)]
pub(super) struct ExpireUploads(pub(super) Arc<Parts>);

#[async_trait]
impl JobHandler for ExpireUploads {
    async fn run(&self, _: JobContext) -> Result<Causes, JobFailure> {
        let more = Uploads::new(Arc::clone(&self.0)).expire().await;
        let more = more.map_err(|error| JobFailure::Retry(error.into()))?;
        Ok(ended(&self.0, KIND, more))
    }
}
