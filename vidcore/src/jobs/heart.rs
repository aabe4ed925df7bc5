//! Heartbeats of running jobs, on a thread that CPU work elsewhere cannot starve.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify as Nudge, broadcast, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::id::JobId;
use crate::jobs::worker::JobContext;
use crate::jobs::{Heartbeat, JOB_CANCELS, JobError};
use crate::notify::{MISSED, Notice};
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
    /// Makes it beat at once.
    nudge: Arc<Nudge>,
}

/// How the leases of one worker are kept.
#[derive(Clone)]
pub(crate) struct Pulse {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    /// How often a lease is renewed.
    pub(crate) every: Duration,
    /// For how long.
    pub(crate) lease: Duration,
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
    pub(crate) fn start(pulse: Pulse, notices: broadcast::Receiver<Notice>) -> std::io::Result<Self> {
        // Unbounded in type only: there is one message per running job.
        let (attend, patients) = mpsc::unbounded_channel::<Patient>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        std::thread::Builder::new()
            .name("job-heartbeat".to_owned())
            .spawn(move || runtime.block_on(beat_all(&pulse, patients, notices)))?;
        Ok(Self { attend })
    }

    /// Renews the job's lease until the answer is dropped.
    pub(crate) fn attend(&self, context: &JobContext) -> Beat {
        let beat = Beat { ended: CancellationToken::new(), asked_to_stop: Arc::default() };
        let patient = Patient {
            context: context.clone(),
            ended: beat.ended.clone(),
            asked_to_stop: Arc::clone(&beat.asked_to_stop),
            nudge: Arc::default(),
        };
        // The thread lives as long as this sender.
        let _ = self.attend.send(patient);
        beat
    }
}

async fn beat_all(
    pulse: &Pulse,
    mut patients: mpsc::UnboundedReceiver<Patient>,
    mut notices: broadcast::Receiver<Notice>,
) {
    let mut beats = JoinSet::new();
    let mut nudges: HashMap<JobId, Arc<Nudge>> = HashMap::new();
    let mut listening = true;
    loop {
        tokio::select! {
            // Who came before the news was published is known before it is looked at.
            biased;
            patient = patients.recv() => {
                let Some(patient) = patient else { break };
                nudges.insert(patient.context.lease.job.id, Arc::clone(&patient.nudge));
                beats.spawn(keep_alive(patient, pulse.clone()));
            }
            Some(ended) = beats.join_next() => {
                // A job that was claimed again meanwhile has a nudge of its own.
                if let Ok((job, nudge)) = ended && nudges.get(&job).is_some_and(|known| Arc::ptr_eq(known, &nudge)) {
                    nudges.remove(&job);
                }
            }
            notice = notices.recv(), if listening => match notice {
                // Any of them may have been meant.
                Ok(notice) if notice.topic == MISSED => nudges.values().for_each(|nudge| nudge.notify_one()),
                Ok(notice) => asked_to_stop(&notice).and_then(|job| nudges.get(&job)).into_iter().for_each(|it| it.notify_one()),
                Err(RecvError::Lagged(_)) => nudges.values().for_each(|nudge| nudge.notify_one()),
                Err(RecvError::Closed) => listening = false,
            },
        }
    }
    while beats.join_next().await.is_some() {}
}

/// The job that the notice asks to stop. The notice itself is not believed: it makes the heart ask the store.
fn asked_to_stop(notice: &Notice) -> Option<JobId> {
    (notice.topic == JOB_CANCELS).then(|| notice.key.parse().ok())?
}

/// Renews one job's lease until its attempt has ended or the lease is lost.
async fn keep_alive(patient: Patient, pulse: Pulse) -> (JobId, Arc<Nudge>) {
    let fence = patient.context.lease.fence();
    loop {
        tokio::select! {
            () = patient.ended.cancelled() => break,
            () = pulse.clock.sleep(pulse.every) => {}
            () = patient.nudge.notified() => {}
        }
        crate::failpoints::hit("before-heartbeat");
        match pulse.store.heartbeat(fence, pulse.lease, Some(patient.context.permille())).await {
            Ok(Heartbeat { cancel: false, .. }) => crate::failpoints::hit("after-heartbeat"),
            Ok(Heartbeat { cancel: true, .. }) => {
                patient.asked_to_stop.store(true, Ordering::Release);
                patient.context.cancel.cancel();
            }
            Err(JobError::LeaseLost { .. }) => {
                // Somebody else may own the job: stop as soon as possible, write nothing.
                patient.context.cancel.cancel();
                break;
            }
            // The lease outlives two missed beats; the next one may get through.
            Err(error) => tracing::warn!(error = %error, job.id = %fence.job, "a heartbeat failed"),
        }
    }
    (fence.job, patient.nudge)
}
