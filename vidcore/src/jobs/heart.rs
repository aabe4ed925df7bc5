//! Heartbeats of running jobs, on a thread that CPU work elsewhere cannot starve.
//!
//! A job that ends between two beats costs two entries into a table and nothing else: neither a task nor
//! a message, so that short jobs by the thousand do not wake this thread.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
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
    patients: Arc<Patients>,
    /// Fires when the worker is gone.
    gone: CancellationToken,
}

/// How the leases of one worker are kept.
#[derive(Clone)]
pub(crate) struct Pulse {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    /// The longest time between two renewals of a lease.
    pub(crate) every: Duration,
    /// For how long.
    pub(crate) lease: Duration,
}

/// The running jobs by the tokens of their attempts.
#[derive(Default)]
struct Patients(Mutex<HashMap<i64, Patient>>);

/// One running job, from the heart's side.
#[derive(Clone)]
struct Patient {
    context: JobContext,
    asked_to_stop: Arc<AtomicBool>,
    /// When its lease was last known to be renewed.
    renewed: Duration,
    /// A renewal is under way.
    beating: bool,
    /// It began before the latest news: what it brings back may be older.
    again: bool,
}

/// Ends the heartbeats of one job when it is dropped or told to.
pub(crate) struct Beat {
    patients: Arc<Patients>,
    token: i64,
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
        self.patients.table().remove(&self.token);
    }
}

impl Drop for Heart {
    fn drop(&mut self) {
        self.gone.cancel();
    }
}

impl fmt::Debug for Heart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heart").finish_non_exhaustive()
    }
}

impl Heart {
    /// Starts the thread; it ends when the heart is dropped.
    pub(crate) fn start(pulse: Pulse, notices: broadcast::Receiver<Notice>) -> std::io::Result<Self> {
        let heart = Self { patients: Arc::default(), gone: CancellationToken::new() };
        let (patients, gone) = (Arc::clone(&heart.patients), heart.gone.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        std::thread::Builder::new().name("job-heartbeat".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = gone.cancelled() => {}
                    () = beat_all(&pulse, &patients, notices) => {}
                }
            });
        })?;
        Ok(heart)
    }

    /// Renews the job's lease until the answer is dropped. `now` is the clock's monotonic reading.
    pub(crate) fn attend(&self, context: &JobContext, now: Duration) -> Beat {
        let token = context.lease.token;
        let asked_to_stop = Arc::<AtomicBool>::default();
        let patient = Patient {
            context: context.clone(),
            asked_to_stop: Arc::clone(&asked_to_stop),
            renewed: now,
            beating: false,
            again: false,
        };
        self.patients.table().insert(token, patient);
        Beat { patients: Arc::clone(&self.patients), token, asked_to_stop }
    }
}

impl Patients {
    fn table(&self) -> MutexGuard<'_, HashMap<i64, Patient>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those whom `wanted` chooses, to be renewed now. Where that is under way already, it is done again.
    fn begin(&self, wanted: impl Fn(&Patient) -> bool) -> Vec<Patient> {
        let mut chosen = Vec::new();
        for patient in self.table().values_mut().filter(|patient| wanted(patient)) {
            patient.again = patient.beating;
            if !std::mem::replace(&mut patient.beating, true) {
                chosen.push(patient.clone());
            }
        }
        chosen
    }

    /// Notes what came of a renewal; `true` if it is to be done again.
    fn end(&self, token: i64, renewed: Option<Duration>) -> bool {
        let mut table = self.table();
        // The job has ended otherwise.
        let Some(patient) = table.get_mut(&token) else { return false };
        patient.renewed = renewed.unwrap_or(patient.renewed);
        patient.beating = std::mem::take(&mut patient.again);
        patient.beating
    }
}

/// Looks twice in each period at who is due, and at once at whom news is about.
async fn beat_all(pulse: &Pulse, patients: &Arc<Patients>, mut notices: broadcast::Receiver<Notice>) {
    let tick = pulse.every / 2;
    let mut beats = JoinSet::new();
    let mut listening = true;
    let mut pause = pulse.clock.sleep(tick);
    loop {
        let due = tokio::select! {
            () = &mut pause => {
                pause = pulse.clock.sleep(tick);
                let now = pulse.clock.monotonic();
                patients.begin(|patient| !patient.beating && now.saturating_sub(patient.renewed) >= tick)
            }
            notice = notices.recv(), if listening => match notice {
                // Any of them may have been meant.
                Ok(notice) if notice.topic == MISSED => patients.begin(|_| true),
                Ok(notice) => match asked_to_stop(&notice) {
                    Some(job) => patients.begin(|patient| patient.context.lease.job.id == job),
                    None => continue,
                },
                Err(RecvError::Lagged(_)) => patients.begin(|_| true),
                Err(RecvError::Closed) => {
                    listening = false;
                    continue;
                }
            },
            Some(_) = beats.join_next() => continue,
        };
        for patient in due {
            beats.spawn(renew(patient, pulse.clone(), Arc::clone(patients)));
        }
    }
}

/// The job that the notice asks to stop. The notice itself is not believed: it makes the heart ask the store.
fn asked_to_stop(notice: &Notice) -> Option<JobId> {
    (notice.topic == JOB_CANCELS).then(|| notice.key.parse().ok())?
}

/// Renews one job's lease, once more for each piece of news on the way.
async fn renew(patient: Patient, pulse: Pulse, patients: Arc<Patients>) {
    let token = patient.context.lease.token;
    loop {
        crate::failpoints::hit("before-heartbeat");
        let begun = pulse.clock.monotonic();
        let renewed = match beat(&patient, &pulse).await {
            Ok(()) => Some(begun),
            Err(JobError::LeaseLost { .. }) => {
                // Somebody else may own the job: stop as soon as possible, write nothing.
                patient.context.cancel.cancel();
                patients.table().remove(&token);
                return;
            }
            // The lease outlives missed beats; the next tick tries again.
            Err(error) => {
                tracing::warn!(%error, job.id = %patient.context.lease.job.id, "a heartbeat failed");
                None
            }
        };
        if !patients.end(token, renewed) {
            return;
        }
    }
}

/// Renews the lease and hands on what the store says.
async fn beat(patient: &Patient, pulse: &Pulse) -> Result<(), JobError> {
    let (fence, progress) = (patient.context.lease.fence(), patient.context.permille());
    let Heartbeat { cancel, .. } = pulse.store.heartbeat(fence, pulse.lease, Some(progress)).await?;
    crate::failpoints::hit("after-heartbeat");
    if cancel {
        patient.asked_to_stop.store(true, Ordering::Release);
        patient.context.cancel.cancel();
    }
    Ok(())
}
