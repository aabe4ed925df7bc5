//! The job of a node: one mark in the ledger.

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use vidcore::jobs::worker::{JobContext, JobFailure, JobHandler};
use vidcore::store::Causes;

use crate::effects::announce;

/// How long the job goes on after its effect: time for somebody to kill it before it is settled.
const AFTERWARDS: Duration = Duration::from_millis(30);

/// Leaves a mark in the ledger at that address, under the attempt's token.
#[derive(Debug)]
pub(super) struct LeaveMark(pub(super) SocketAddr);

#[async_trait]
impl JobHandler for LeaveMark {
    async fn run(&self, context: JobContext) -> Result<Causes, JobFailure> {
        let (job, token) = (context.lease.job.id.to_string(), context.lease.token);
        let taken = announce(self.0, &job, token).await.map_err(JobFailure::Retry)?;
        tokio::time::sleep(AFTERWARDS).await;
        if taken { Ok(Causes::none()) } else { Err(JobFailure::Fenced) }
    }
}
