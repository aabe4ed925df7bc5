//! The loop of a worker: claim, run, settle, sweep, wait; and its end.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::entropy::EntropyExt;
use crate::jobs::heart::Heart;
use crate::jobs::worker::{Handlers, JobContext, JobFailure, WorkerOptions, WorkerParts};
use crate::jobs::{AfterFailure, Claim, JobError, JobState, Lease};
use crate::store::Causes;

/// Longest error text kept with a job, in bytes.
const ERROR_LIMIT: usize = 2000;

/// How long a worker leaves a store alone that could not carry out a claim or a settlement.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// How long a handler may take to stop once it is cancelled at shutdown; then it is left behind and
/// its job given back all the same, which is safe because its token is worth nothing any more.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// What came of an attempt to claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claimed {
    Some,
    /// No slot is free, or as many jobs are being settled as may be.
    Full,
    /// Nothing is due.
    Nothing,
    /// The store did not answer.
    Failed,
}

pub(super) struct Runner {
    pub(super) parts: WorkerParts,
    pub(super) handlers: Handlers,
    pub(super) options: WorkerOptions,
    pub(super) heart: Heart,
    /// One permit for each handler that may run; given back when it has ended, before its job is settled.
    pub(super) slots: Arc<Semaphore>,
    /// Told when a slot is given back.
    pub(super) freed: Notify,
    /// Fires when nothing more is to be claimed.
    pub(super) stop: CancellationToken,
    /// Fires when the grace time is over: running jobs are given back.
    pub(super) abort: CancellationToken,
}

/// Works until it is told to stop, and drains.
pub(super) async fn run(runner: Arc<Runner>) {
    let stop = runner.stop.clone();
    let mut running = JoinSet::new();
    let mut next_sweep = Duration::ZERO;
    // Whether the last claim that was made found something: then there is likely to be more.
    let mut eager = false;
    while !stop.is_cancelled() {
        let now = runner.parts.clock.monotonic();
        if now >= next_sweep {
            runner.sweep().await;
            next_sweep = now + runner.options.sweep;
        }
        while running.try_join_next().is_some() {}
        let claimed = runner.claim(&mut running, eager).await;
        eager = claimed == Claimed::Some || (eager && claimed == Claimed::Full);
        match claimed {
            Claimed::Some => {}
            Claimed::Full => tokio::select! {
                () = stop.cancelled() => {}
                () = runner.parts.clock.sleep(next_sweep.saturating_sub(runner.parts.clock.monotonic())) => {}
                () = runner.freed.notified() => {}
                Some(_) = running.join_next() => {}
            },
            Claimed::Nothing => tokio::select! {
                () = stop.cancelled() => {}
                () = runner.wait(next_sweep) => {}
                // The end of a job makes room for another one of its owner.
                Some(_) = running.join_next(), if runner.options.per_owner.is_some() => {}
            },
            // The job that could not be claimed is still due: without a pause this would spin.
            Claimed::Failed => tokio::select! {
                () = stop.cancelled() => {}
                () = runner.parts.clock.sleep(STORE_PAUSE) => {}
            },
        }
    }
    runner.drain(running).await;
}

impl Runner {
    /// How many jobs may be claimed now: one for each free slot, while no more jobs wait for their
    /// settlement than there are slots.
    fn room(&self, running: &JoinSet<()>) -> u16 {
        let most = usize::from(self.options.concurrency.max(1)) * 2;
        let room = self.slots.available_permits().min(most.saturating_sub(running.len()));
        u16::try_from(room).unwrap_or(u16::MAX)
    }

    /// Claims as many jobs as there is room for. A job that is settled has left its slot: the next claim and
    /// the settlements before it share a commit.
    async fn claim(self: &Arc<Self>, running: &mut JoinSet<()>, eager: bool) -> Claimed {
        let room = self.room(running);
        if room == 0 {
            return Claimed::Full;
        }
        let leases = match self.lease(room, eager).await {
            Ok(leases) => leases,
            Err(error) => {
                tracing::warn!(error = %error, "claiming jobs failed and will be repeated");
                return Claimed::Failed;
            }
        };
        let claimed = if leases.is_empty() { Claimed::Nothing } else { Claimed::Some };
        for lease in leases {
            let slot = Arc::clone(&self.slots).try_acquire_owned().expect("as many were free as were claimed");
            running.spawn(Arc::clone(self).attempt(lease, slot));
        }
        claimed
    }

    /// A cheap read first, so that an idle worker that is woken writes nothing; where the claim before
    /// found something, there is likely to be more.
    async fn lease(&self, limit: u16, eager: bool) -> Result<Vec<Lease>, JobError> {
        if !eager && !self.is_anything_due().await? {
            return Ok(Vec::new());
        }
        // Asked again: the worker may have been told to stop while it looked.
        if self.stop.is_cancelled() {
            return Ok(Vec::new());
        }
        let claim = Claim {
            queues: self.handlers.queues.clone(),
            limit,
            lease_for: self.options.lease,
            worker: self.parts.name.clone(),
            per_owner: self.options.per_owner,
        };
        self.parts.store.lease(claim).await
    }

    async fn is_anything_due(&self) -> Result<bool, JobError> {
        let next = self.parts.store.next_due(&self.handlers.queues, self.options.per_owner).await?;
        Ok(next.is_some_and(|due| due <= self.parts.clock.now()))
    }

    async fn sweep(&self) {
        match self.parts.store.sweep().await {
            Ok(swept) if swept.rescued + swept.dead > 0 => {
                metrics::counter!("vid_jobs_rescued_total").increment(swept.rescued);
                metrics::counter!("vid_jobs_lost_total").increment(swept.dead);
                tracing::warn!(rescued = swept.rescued, dead = swept.dead, "jobs of lost workers were freed");
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(error = %error, "sweeping jobs failed and will be repeated"),
        }
    }

    /// Waits for a hint, for the next delayed job, or for the next sweep. Who has no room does not come here:
    /// hints stay for others.
    async fn wait(&self, next_sweep: Duration) {
        let clock = &self.parts.clock;
        let mut pause = next_sweep.saturating_sub(clock.monotonic());
        let queues = &self.handlers.queues;
        // Polled before the table is read, so that a hint given in between finds this worker waiting.
        let mut hint = self.parts.dispatcher.wait(queues);
        let next = tokio::select! {
            biased;
            () = &mut hint => return,
            next = self.parts.store.next_due(queues, self.options.per_owner) => next,
        };
        if let Ok(Some(due)) = next {
            pause = pause.min(due.since(clock.now()).max(Duration::from_millis(1)));
        }
        tokio::select! {
            () = clock.sleep(pause) => {}
            () = hint => {}
        }
    }

    async fn drain(&self, mut running: JoinSet<()>) {
        crate::failpoints::hit("mid-drain");
        let finished = async { while running.join_next().await.is_some() {} };
        tokio::select! {
            () = finished => return,
            () = self.parts.clock.sleep(self.options.grace) => {}
            () = self.abort.cancelled() => {}
        }
        self.abort.cancel();
        while running.join_next().await.is_some() {}
    }

    #[tracing::instrument(name = "job", skip_all, fields(job.id = %lease.job.id, job.kind = %lease.job.kind, token = lease.token))]
    async fn attempt(self: Arc<Self>, lease: Lease, slot: OwnedSemaphorePermit) {
        let fence = lease.fence();
        crate::failpoints::hit("after-claim");
        let context = JobContext::new(lease);
        let started = self.parts.clock.monotonic();
        let beat = self.heart.attend(&context, started);
        let outcome = self.guarded(context.clone()).await;
        drop(slot);
        self.freed.notify_one();
        let asked_to_stop = beat.end();
        let kind = context.lease.job.kind.clone();
        let took = self.parts.clock.monotonic().saturating_sub(started);
        metrics::histogram!("vid_job_run_seconds", "kind" => kind).record(took.as_secs_f64());
        match self.settle_patiently(&Ended { lease: &context.lease, outcome, asked_to_stop, took }).await {
            Ok(()) => {}
            Err(JobError::LeaseLost { .. }) => {
                tracing::warn!("fenced: the attempt on {} ended after its lease", fence.job);
            }
            // The lease runs out and the sweep frees the job.
            Err(error) => tracing::error!(error = %error, "settling {} failed", fence.job),
        }
    }

    /// Work that is done is not thrown away because the store has no time for it: the settlement is
    /// repeated for as long as the lease may hold, but not at shutdown.
    async fn settle_patiently(&self, ended: &Ended<'_>) -> Result<(), JobError> {
        let clock = &self.parts.clock;
        let give_up = clock.monotonic() + self.options.lease;
        loop {
            match self.settle(ended).await {
                Err(error) if error.is_retryable() && clock.monotonic() < give_up && !self.abort.is_cancelled() => {
                    tracing::warn!(error = %error, "settling {} failed and will be repeated", ended.lease.job.id);
                }
                settled => return settled,
            }
            tokio::select! {
                () = clock.sleep(STORE_PAUSE) => {}
                () = self.abort.cancelled() => {}
            }
        }
    }

    async fn settle(&self, ended: &Ended<'_>) -> Result<(), JobError> {
        let (store, fence) = (&self.parts.store, ended.lease.fence());
        match &ended.outcome {
            Ok(causes) => store.complete(fence, causes.clone()).await,
            Err(JobFailure::Fenced) => Err(JobError::LeaseLost { job: fence.job }),
            Err(JobFailure::Cancelled) if ended.asked_to_stop => store.settle_cancelled(fence).await,
            Err(JobFailure::Cancelled) if self.abort.is_cancelled() => store.release(fence).await,
            Err(failure) => self.fail(ended.lease, failure, ended.took).await,
        }
    }

    /// Runs the handler; a panic is a failed attempt, and the end of the grace time cancels it.
    async fn guarded(&self, context: JobContext) -> Result<Causes, JobFailure> {
        let Some(handler) = self.handlers.kinds.get(&context.lease.job.kind).cloned() else {
            return Err(JobFailure::Retry(format!("no handler for {}", context.lease.job.kind).into()));
        };
        let cancel = context.cancel.clone();
        let mut task = tokio::spawn(async move { handler.run(context).await }.in_current_span());
        let joined = tokio::select! {
            joined = &mut task => joined,
            () = self.abort.cancelled() => {
                cancel.cancel();
                tokio::select! {
                    joined = &mut task => joined,
                    () = self.parts.clock.sleep(STOP_PATIENCE) => {
                        tracing::warn!("a job handler did not stop and was left behind");
                        task.abort();
                        return Err(JobFailure::Cancelled);
                    }
                }
            }
        };
        joined.unwrap_or_else(|error| {
            tracing::error!(error = %error, "a job handler panicked");
            Err(JobFailure::Retry("the handler panicked".into()))
        })
    }

    async fn fail(&self, lease: &Lease, failure: &JobFailure, took: Duration) -> Result<(), JobError> {
        let now = self.parts.clock.now();
        let after = match failure {
            JobFailure::Permanent(_) => AfterFailure::Dead,
            JobFailure::Retry(error) if met_a_full_disk(&**error) => {
                AfterFailure::PostponeTo(now.plus(self.pause(took)))
            }
            _ => {
                let delay = self.options.retry.delay(lease.job.attempts, self.parts.entropy.unit());
                AfterFailure::RetryAt(now.plus(delay))
            }
        };
        let error = shorten(describe(failure));
        let state = self.parts.store.fail(lease.fence(), error.clone(), after).await?;
        metrics::counter!("vid_jobs_failed_total", "kind" => lease.job.kind.clone()).increment(1);
        tracing::warn!(%error, attempt = lease.job.attempts, "an attempt on {} failed", lease.job.id);
        match state {
            JobState::Queued => {
                metrics::counter!("vid_jobs_retried_total", "kind" => lease.job.kind.clone()).increment(1);
            }
            // Its follow-up, if it has one, was written with the death.
            JobState::Dead => {
                metrics::counter!("vid_jobs_dead_total", "kind" => lease.job.kind.clone()).increment(1);
            }
            _ => {}
        }
        Ok(())
    }

    /// How long a job is put off that found the disk full after working for so long: at least until the next
    /// sweep, and as long as it had worked, so that what does not fit takes half of a slot's time at most.
    fn pause(&self, took: Duration) -> Duration {
        took.min(self.options.retry.cap).max(self.options.sweep)
    }
}

/// An attempt whose handler has ended, as it is settled.
struct Ended<'a> {
    lease: &'a Lease,
    outcome: Result<Causes, JobFailure>,
    asked_to_stop: bool,
    /// How long the handler worked.
    took: Duration,
}

/// Whether an error comes of a full disk, however deep that lies. A video must not fail because a disk was full
/// for longer than its attempts take.
fn met_a_full_disk(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(next) = cause {
        if let Some(io) = next.downcast_ref::<std::io::Error>() {
            if matches!(io.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
                return true;
            }
            // Its own source leaves out the error it was made from.
            cause = io.get_ref().map(|inner| inner as _);
        } else {
            cause = next.source();
        }
    }
    false
}

fn describe(failure: &JobFailure) -> String {
    let mut text = failure.to_string();
    let mut cause = std::error::Error::source(failure).and_then(std::error::Error::source);
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

fn shorten(mut text: String) -> String {
    if text.len() > ERROR_LIMIT {
        let mut end = ERROR_LIMIT;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    text
}
