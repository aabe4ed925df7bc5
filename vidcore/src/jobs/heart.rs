//! Heartbeats of running jobs, on a thread that CPU work elsewhere cannot starve.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::jobs::worker::JobContext;
use crate::jobs::{Heartbeat, JobError};
use crate::store::Store;

/// Keeps the leases of one worker alive.
pub(crate) struct Heart {
    attend: mpsc::UnboundedSender<Patient>,
}

/// One running job, from the heart's side.
struct Patient {
    context: JobContext,
    ended: CancellationToken,
    asked_to_stop: Arc<AtomicBool>,
}

/// Ends the heartbeats of one job when it is dropped or told to.
#[derive(Debug)]
pub(crate) struct Beat {
    ended: CancellationToken,
    asked_to_stop: Arc<AtomicBool>,
}

impl Beat {
    /// Ends the heartbeats; `true` if somebody had asked the job to stop.
    pub(crate) fn end(self) -> bool {
        self.asked_to_stop.load(Ordering::Acquire)
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        self.ended.cancel();
    }
}

impl fmt::Debug for Heart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heart").finish_non_exhaustive()
    }
}

impl Heart {
    /// Starts the thread; it ends when the heart is dropped and the last job has ended.
    pub(crate) fn start(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        every: Duration,
        lease: Duration,
    ) -> std::io::Result<Self> {
        // Unbounded in type only: there is one message per running job.
        let (attend, mut patients) = mpsc::unbounded_channel::<Patient>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        std::thread::Builder::new().name("job-heartbeat".to_owned()).spawn(move || {
            runtime.block_on(async {
                let mut beats = tokio::task::JoinSet::new();
                while let Some(patient) = patients.recv().await {
                    beats.spawn(keep_alive(patient, Arc::clone(&store), Arc::clone(&clock), every, lease));
                    while beats.try_join_next().is_some() {}
                }
                while beats.join_next().await.is_some() {}
            });
        })?;
        Ok(Self { attend })
    }

    /// Renews the job's lease until the answer is dropped.
    pub(crate) fn attend(&self, context: &JobContext) -> Beat {
        let beat = Beat { ended: CancellationToken::new(), asked_to_stop: Arc::default() };
        let patient = Patient {
            context: context.clone(),
            ended: beat.ended.clone(),
            asked_to_stop: Arc::clone(&beat.asked_to_stop),
        };
        // The thread lives as long as this sender.
        let _ = self.attend.send(patient);
        beat
    }
}

async fn keep_alive(patient: Patient, store: Arc<dyn Store>, clock: Arc<dyn Clock>, every: Duration, lease: Duration) {
    let fence = patient.context.lease.fence();
    loop {
        tokio::select! {
            () = patient.ended.cancelled() => return,
            () = clock.sleep(every) => {}
        }
        crate::failpoints::hit("before-heartbeat");
        match store.heartbeat(fence, lease, Some(patient.context.permille())).await {
            Ok(Heartbeat { cancel: false, .. }) => crate::failpoints::hit("after-heartbeat"),
            Ok(Heartbeat { cancel: true, .. }) => {
                patient.asked_to_stop.store(true, Ordering::Release);
                patient.context.cancel.cancel();
            }
            Err(JobError::LeaseLost { .. }) => {
                // Somebody else may own the job: stop as soon as possible, write nothing.
                patient.context.cancel.cancel();
                return;
            }
            // The lease outlives two missed beats; the next one may get through.
            Err(error) => tracing::warn!(error = %error, job.id = %fence.job, "a heartbeat failed"),
        }
    }
}
