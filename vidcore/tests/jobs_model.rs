//! The job store beside a model of it: any series of commands, from any number of workers who may have lost
//! their leases, has the same answers and leaves the same jobs.
//!
//! `PROPTEST_CASES` sets how many series are tried; a failing one is shrunk and printed.

#![cfg(all(feature = "sqlite", feature = "testkit"))]

use std::num::NonZeroU32;
use std::time::Duration;

use proptest::prelude::*;
use vidcore::id::{JobGroupId, JobId, UserId};
use vidcore::jobs::{
    AfterFailure, Claim, FollowUp, Job, JobError, JobFilter, JobState, NewJob, NewJobGroup, QueueName,
};
use vidcore::store::{Causes, Fence, Outcome};
use vidcore::testkit::jobs::model::{JobModel, Refusal};
use vidcore::testkit::jobs::{Dispatch, JobHarness};

/// The queues of the jobs here.
const QUEUES: [&str; 2] = ["a", "b"];

/// How long a claim holds.
const LEASE: Duration = Duration::from_millis(50);

/// Series tried where nothing else is asked for.
const CASES: u32 = 150;

#[derive(Debug, Clone)]
struct Wanted {
    queue: usize,
    owner: Option<u8>,
    priority: i8,
    delay_ms: u64,
    max_attempts: u16,
    unique: Option<u8>,
    followed: bool,
}

#[derive(Debug, Clone)]
enum Step {
    Enqueue(Wanted),
    Claim { queues: usize, limit: u16, per_owner: Option<u32> },
    Heartbeat(prop::sample::Index),
    Complete(prop::sample::Index, Vec<Wanted>, bool),
    Fail(prop::sample::Index, Option<u64>),
    Postpone(prop::sample::Index, u64),
    Release(prop::sample::Index),
    SettleCancelled(prop::sample::Index),
    Cancel(prop::sample::Index),
    Retry(prop::sample::Index),
    Replay,
    Sweep,
    Advance(u64),
    Pause(usize, bool),
    Fire(u8, u64),
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let delays = prop_oneof![3 => Just(0), 1 => 1..120_u64];
    let unique = prop_oneof![3 => Just(None), 1 => (0..2_u8).prop_map(Some)];
    (0..2_usize, prop::option::of(0..3_u8), -1..=1_i8, delays, 1..=3_u16, unique, any::<bool>()).prop_map(
        |(queue, owner, priority, delay_ms, max_attempts, unique, followed)| Wanted {
            queue,
            owner,
            priority,
            delay_ms,
            max_attempts,
            unique,
            followed,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let lease = any::<prop::sample::Index>;
    prop_oneof![
        6 => wanted().prop_map(Step::Enqueue),
        6 => (1..4_usize, 1..4_u16, prop::option::of(1..3_u32))
            .prop_map(|(queues, limit, per_owner)| Step::Claim { queues, limit, per_owner }),
        2 => lease().prop_map(Step::Heartbeat),
        4 => (lease(), prop::collection::vec(wanted(), 0..3), any::<bool>())
            .prop_map(|(lease, jobs, grouped)| Step::Complete(lease, jobs, grouped)),
        3 => (lease(), prop::option::of(0..100_u64)).prop_map(|(lease, retry)| Step::Fail(lease, retry)),
        1 => (lease(), 0..100_u64).prop_map(|(lease, ms)| Step::Postpone(lease, ms)),
        1 => lease().prop_map(Step::Release),
        1 => lease().prop_map(Step::SettleCancelled),
        2 => lease().prop_map(Step::Cancel),
        1 => lease().prop_map(Step::Retry),
        1 => Just(Step::Replay),
        2 => Just(Step::Sweep),
        4 => (1..60_u64).prop_map(Step::Advance),
        1 => (0..2_usize, any::<bool>()).prop_map(|(queue, paused)| Step::Pause(queue, paused)),
        1 => (0..2_u8, 0..40_u64).prop_map(|(name, ago)| Step::Fire(name, ago)),
    ]
}

/// The store, the model, and every lease that was ever given.
struct Pair {
    h: JobHarness,
    model: JobModel,
    users: [UserId; 3],
    fences: Vec<Fence>,
}

fn refusal<T>(answer: Result<T, JobError>) -> Result<T, Refusal> {
    answer.map_err(|error| match error {
        JobError::LeaseLost { .. } => Refusal::LeaseLost,
        JobError::WrongState { .. } => Refusal::WrongState,
        error => panic!("the store answers: {error}"),
    })
}

impl Pair {
    async fn open() -> Self {
        let h = JobHarness::sqlite(Dispatch::Local).await.expect("it is built in");
        let users = [h.user_id(), h.user_id(), h.user_id()];
        Self { h, model: JobModel::default(), users, fences: Vec::new() }
    }

    fn job(&self, wanted: &Wanted, group: Option<JobGroupId>) -> NewJob {
        let now = self.h.now();
        NewJob {
            queue: QueueName::new(QUEUES[wanted.queue]),
            priority: wanted.priority,
            run_at: now.plus(Duration::from_millis(wanted.delay_ms)),
            max_attempts: wanted.max_attempts,
            unique_key: wanted.unique.map(|key| key.to_string()),
            owner: wanted.owner.map(|owner| self.users[usize::from(owner)]),
            on_dead: wanted.followed.then(|| FollowUp { max_attempts: 2, ..self.h.follow_up() }),
            group,
            ..self.h.new_job("work")
        }
    }

    fn fence(&self, index: prop::sample::Index) -> Option<Fence> {
        (!self.fences.is_empty()).then(|| *index.get(&self.fences))
    }

    fn any_job(&self, index: prop::sample::Index) -> Option<JobId> {
        (!self.model.jobs.is_empty()).then(|| index.get(&self.model.jobs).new.id)
    }

    async fn take(&mut self, step: Step) {
        let now = self.h.now();
        match step {
            Step::Enqueue(wanted) => {
                let job = self.job(&wanted, None);
                let expected = self.model.enqueue(job.clone(), now);
                assert_eq!(expected, self.h.enqueue(job).await.id);
            }
            Step::Claim { queues, limit, per_owner } => self.claim(queues, limit, per_owner).await,
            Step::Complete(index, wanted, grouped) => {
                if let Some(fence) = self.fence(index) {
                    self.complete(fence, &wanted, grouped).await;
                }
            }
            Step::Heartbeat(index)
            | Step::Release(index)
            | Step::SettleCancelled(index)
            | Step::Postpone(index, _)
            | Step::Fail(index, _) => {
                if let Some(fence) = self.fence(index) {
                    self.end(fence, &step).await;
                }
            }
            Step::Cancel(index) | Step::Retry(index) => {
                if let Some(job) = self.any_job(index) {
                    self.steer(job, &step).await;
                }
            }
            Step::Replay => self.replay().await,
            Step::Sweep => assert_eq!(self.model.sweep(now), self.h.store.sweep().await.expect("the store answers")),
            Step::Advance(ms) => self.h.clock.advance(Duration::from_millis(ms)),
            Step::Pause(queue, paused) => {
                let queue = QueueName::new(QUEUES[queue]);
                self.model.set_paused(&queue, paused);
                self.h.store.set_paused(&queue, paused, Causes::none()).await.expect("the store answers");
            }
            Step::Fire(name, ago) => {
                let (name, slot) = (format!("schedule {name}"), now.minus(Duration::from_millis(ago)));
                let job = NewJob { queue: QueueName::new(QUEUES[0]), ..self.h.new_job("work") };
                let expected = self.model.fire(&name, slot, job.clone(), now);
                assert_eq!(expected, self.h.store.fire(&name, slot, job).await.expect("the store answers"));
            }
        }
    }

    async fn claim(&mut self, queues: usize, limit: u16, per_owner: Option<u32>) {
        let named: Vec<&str> =
            (0..QUEUES.len()).filter(|bit| queues & (1 << bit) != 0).map(|bit| QUEUES[bit]).collect();
        let per_owner = per_owner.and_then(NonZeroU32::new);
        let claim = Claim { lease_for: LEASE, per_owner, ..self.h.claim(&named, limit) };
        let expected = self.model.lease(&claim, self.h.now());
        let leases = self.h.store.lease(claim).await.expect("the store answers");
        let claimed: Vec<_> = leases.iter().map(|lease| lease.fence()).collect();
        assert_eq!(expected, claimed);
        self.fences.extend(claimed);
    }

    async fn complete(&mut self, fence: Fence, wanted: &[Wanted], grouped: bool) {
        let id = JobGroupId::from_bytes(*self.h.job_id().as_bytes());
        let group = grouped
            .then(|| NewJobGroup { id, next: NewJob { queue: QueueName::new(QUEUES[0]), ..self.h.new_job("next") } });
        let jobs: Vec<_> = wanted.iter().map(|wanted| self.job(wanted, group.as_ref().map(|it| it.id))).collect();
        let causes = Causes { jobs: jobs.clone(), groups: group.clone().into_iter().collect(), ..Causes::none() };
        let expected = self.model.complete(fence, jobs, group, self.h.now());
        assert_eq!(expected, refusal(self.h.store.complete(fence, causes).await));
    }

    async fn end(&mut self, fence: Fence, step: &Step) {
        let (now, store) = (self.h.now(), &self.h.store);
        match step {
            Step::Heartbeat(_) => {
                let expected = self.model.heartbeat(fence, now.plus(LEASE), now);
                let beat = store.heartbeat(fence, LEASE, None).await.map(|beat| beat.cancel);
                assert_eq!(expected, refusal(beat));
            }
            Step::Release(_) => {
                assert_eq!(self.model.release(fence, now), refusal(store.release(fence).await));
            }
            Step::SettleCancelled(_) => {
                assert_eq!(self.model.settle_cancelled(fence, now), refusal(store.settle_cancelled(fence).await));
            }
            Step::Fail(_, retry) => {
                let retry = retry.map(|ms| AfterFailure::RetryAt(now.plus(Duration::from_millis(ms))));
                let after = retry.unwrap_or(AfterFailure::Dead);
                let expected = self.model.fail(fence, after, now);
                assert_eq!(expected, refusal(store.fail(fence, "broken".to_owned(), after).await));
            }
            Step::Postpone(_, ms) => {
                let after = AfterFailure::PostponeTo(now.plus(Duration::from_millis(*ms)));
                let expected = self.model.fail(fence, after, now);
                assert_eq!(expected, refusal(store.fail(fence, "no room".to_owned(), after).await));
            }
            step => unreachable!("{step:?} ends no attempt"),
        }
    }

    async fn steer(&mut self, job: JobId, step: &Step) {
        let (now, store) = (self.h.now(), &self.h.store);
        let (expected, found) = match step {
            Step::Cancel(_) => (self.model.cancel(job, now), store.cancel(job, None, Causes::none()).await),
            _ => (self.model.retry(job, now), store.retry(job, None, Causes::none()).await),
        };
        assert_eq!(expected, refusal(found.map(|_| ())));
    }

    async fn replay(&mut self) {
        let filter = JobFilter { state: Some(JobState::Dead), ..JobFilter::default() };
        // Those that died first first: of two with one unique key that one is queued again.
        let mut dead = self.h.store.jobs(&filter, None, 1000).await.expect("the store answers");
        let written = |job: &Job| self.model.jobs.iter().position(|it| it.new.id == job.id);
        dead.sort_by_key(|job| (job.finished_at, written(job)));
        let dead: Vec<_> = dead.iter().map(|job| job.id).collect();
        let expected = self.model.replay(&dead, self.h.now());
        let found = self.h.store.replay(&JobFilter::default(), 1000, Causes::none()).await.map(Outcome::into_inner);
        assert_eq!(expected, found.expect("the store answers"));
    }

    /// Every job is as the model has it, and there is no other.
    async fn compare(&self) {
        let jobs = self.h.store.jobs(&JobFilter::default(), None, 1000).await.expect("the store answers");
        assert_eq!(self.model.jobs.len(), jobs.len());
        for job in jobs {
            let expected = self.model.job(job.id);
            assert_eq!(
                (expected.state, expected.run_at, expected.attempts, expected.death, expected.cancel_requested),
                (job.state, job.run_at, job.attempts, job.death, job.cancel_requested),
                "{}",
                job.id
            );
        }
    }
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_series_of_commands_does_to_the_store_what_it_does_to_the_model(
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut pair = Pair::open().await;
            for step in steps {
                pair.take(step).await;
                pair.compare().await;
            }
        });
    }
}
