//! The job of a node: one mark in the ledger.

use std::net::SocketAddr;
use std::time::Duration;

use vidcore::jobs::worker::{JobContext, JobFailure, JobHandler};

use crate::effects::announce;

/// How long the job goes on after its effect: time for somebody to kill it before it is settled.
const AFTERWARDS: Duration = Duration::from_millis(30);

/// Leaves a mark in the ledger at that address, under the attempt's token.
#[derive(Debug)]
pub(super) struct LeaveMark(pub(super) SocketAddr);

impl JobHandler for LeaveMark {
    // What the attribute of the trait makes of `async fn`.
    fn run<'a, 'b>(
        &'a self,
        context: JobContext,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<(), JobFailure>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        let address = self.0;
        Box::pin(async move {
            let (job, token) = (context.lease.job.id.to_string(), context.lease.token);
            let taken = announce(address, &job, token).await.map_err(JobFailure::Retry)?;
            tokio::time::sleep(AFTERWARDS).await;
            if taken { Ok(()) } else { Err(JobFailure::Fenced) }
        })
    }
}
