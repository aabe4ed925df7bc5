//! What every job store promises together with its dispatcher, one claim per function.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, ManualClock, Timestamp};
use crate::id::{JobId, UserId, VideoId};
use crate::jobs::dispatcher::Dispatcher;
use crate::jobs::worker::AnnounceJobs;
use crate::jobs::{Claim, FollowUp, Job, Lease, NewJob, QueueName};
use crate::store::{Causes, Outcome, Store};
use crate::testkit::TestStore;

mod claiming;
mod endings;
mod fleet;
mod groups;
mod hints;
mod leases;
pub mod model;
mod operating;
mod reading;
mod turns;

pub use crate::jobs::sqlite::bare::BareLoop;
pub use claiming::*;
pub use endings::*;
pub use fleet::*;
pub use groups::*;
pub use hints::*;
pub use leases::*;
pub use operating::*;
pub use reading::*;
pub use turns::*;

/// How long the claims of these tests hold.
pub const LEASE: Duration = Duration::from_secs(10);

/// The queue of most jobs here.
pub const QUEUE: &str = "test";

/// What carries the hints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dispatch {
    /// In process.
    Local,
    /// The SQLite change check of another process than the one that enqueues.
    ChangeCheck,
    /// Redis, from one process to another.
    #[cfg(feature = "redis")]
    Redis,
}

/// One empty job store, its dispatcher, and a clock that tests move.
pub struct JobHarness {
    /// The store under test.
    pub store: Arc<dyn Store>,
    /// The one of the process that waits for jobs; in process it is told by the store's commits.
    pub dispatcher: Arc<dyn Dispatcher>,
    /// The time both go by.
    pub clock: ManualClock,
    /// Keeps the change check of the process that waits.
    _process: Process,
    /// How hints get to it.
    fleet: fleet::Fleet,
    /// Keeps the file, and draws ids.
    test: TestStore,
}

impl JobHarness {
    /// A SQLite file in a temporary folder.
    pub async fn sqlite(dispatch: Dispatch) -> Option<Self> {
        let fleet = fleet::Fleet::new(dispatch)?;
        let observers = vec![Arc::new(AnnounceJobs(fleet.producer())) as _];
        let test = TestStore::open_with(observers, |_| {}).await;
        let process = fleet.process(&test);
        Some(Self {
            store: Arc::new(test.store.clone()),
            dispatcher: Arc::clone(&process.dispatcher),
            clock: test.clock.clone(),
            _process: process,
            fleet,
            test,
        })
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A new id of a job.
    pub fn job_id(&self) -> JobId {
        JobId::new(self.now(), &*self.test.entropy)
    }

    /// A new id of an account; jobs hold it without a row of its own.
    pub fn user_id(&self) -> UserId {
        UserId::new(self.now(), &*self.test.entropy)
    }

    /// A new id of a video; jobs hold it without a row of its own.
    pub fn video_id(&self) -> VideoId {
        VideoId::new(self.now(), &*self.test.entropy)
    }

    /// A job that is due now, with three attempts.
    pub fn new_job(&self, kind: &str) -> NewJob {
        let now = self.now();
        NewJob {
            id: self.job_id(),
            queue: QueueName::new(QUEUE),
            kind: kind.to_owned(),
            payload: serde_json::json!({"of": kind}),
            priority: 0,
            run_at: now,
            max_attempts: 3,
            unique_key: None,
            owner: None,
            video: None,
            on_dead: None,
            group: None,
            now,
        }
    }

    /// What follows a job that does not end well.
    pub fn follow_up(&self) -> FollowUp {
        FollowUp {
            id: self.job_id(),
            queue: None,
            kind: "follow_up".to_owned(),
            payload: serde_json::json!({"after": "death"}),
            max_attempts: 5,
        }
    }

    /// Enqueues `job`.
    ///
    /// # Panics
    /// If the store refuses.
    pub async fn enqueue(&self, job: NewJob) -> Job {
        self.store.enqueue(job, Causes::none()).await.map(Outcome::into_inner).expect("the job is enqueued")
    }

    /// Enqueues a job of `kind` that is due now.
    pub async fn enqueued(&self, kind: &str) -> Job {
        self.enqueue(self.new_job(kind)).await
    }

    /// What a worker of these queues asks for.
    pub fn claim(&self, queues: &[&str], limit: u16) -> Claim {
        Claim {
            queues: queues.iter().copied().map(QueueName::new).collect(),
            limit,
            lease_for: LEASE,
            worker: "tester".to_owned(),
            per_owner: None,
        }
    }

    /// Claims up to `limit` jobs.
    ///
    /// # Panics
    /// If the store refuses.
    pub async fn lease_up_to(&self, limit: u16) -> Vec<Lease> {
        self.store.lease(self.claim(&[QUEUE], limit)).await.expect("the store answers")
    }

    /// Claims one job, if one is due.
    pub async fn lease(&self) -> Option<Lease> {
        self.lease_up_to(1).await.pop()
    }

    /// Enqueues a job of `kind` and claims it.
    ///
    /// # Panics
    /// If another job is due before it.
    pub async fn leased(&self, kind: &str) -> Lease {
        let job = self.enqueued(kind).await;
        let lease = self.lease().await.expect("a job is due");
        assert_eq!(job.id, lease.job.id);
        lease
    }

    /// The job as its row says now.
    ///
    /// # Panics
    /// If it is not there.
    pub async fn job(&self, id: JobId) -> Job {
        self.store.job(id).await.expect("the store answers").expect("the job is there")
    }

    /// Lets every lease run out and frees the jobs.
    ///
    /// # Panics
    /// If the store refuses.
    pub async fn lose_leases(&self) -> crate::jobs::Swept {
        self.clock.advance(LEASE);
        self.store.sweep().await.expect("the store answers")
    }
}

impl fmt::Debug for JobHarness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobHarness").field("store", &self.store).field("dispatcher", &self.dispatcher).finish()
    }
}

/// A module called `$name` with one test for every claim about jobs; `$harness` is a future of an
/// `Option<JobHarness>`, `None` when the back end's service is missing.
#[macro_export]
macro_rules! job_store_contract {
    ($name:ident, $harness:expr) => {
        mod $name {
            use super::*;
            $crate::job_store_contract!(@claims $harness;
                an_enqueued_job_is_queued_and_read_back,
                the_older_of_two_jobs_goes_first,
                a_step_of_priority_is_worth_a_minute_of_age,
                a_job_of_the_lowest_priority_is_claimed_all_the_same,
                a_delayed_job_is_not_claimed_before_its_time,
                a_claim_takes_jobs_of_its_queues_alone,
                the_best_jobs_of_several_queues_are_claimed_in_order,
                two_workers_never_hold_the_same_job,
                of_many_enqueues_with_one_unique_key_one_makes_a_job,
                a_unique_key_is_free_once_its_job_has_ended,
                a_caused_job_whose_unique_key_is_taken_is_left_out,
                tokens_grow_with_every_attempt,
                tokens_never_come_back_even_when_their_jobs_are_forgotten,
                of_many_causes_with_one_unique_key_one_makes_a_job,
                an_old_token_changes_nothing,
                a_lease_ends_on_time_whether_or_not_it_was_swept,
                a_heartbeat_keeps_the_lease,
                a_sweep_frees_expired_leases_and_no_others,
                an_attempt_counts_when_it_is_claimed,
                a_released_attempt_is_uncounted_and_the_job_keeps_its_place,
                a_postponed_attempt_is_uncounted_and_its_job_waits_for_its_moment,
                progress_is_never_lowered,
                a_failed_job_is_not_due_before_its_backoff_ends,
                a_job_dies_with_its_last_attempt,
                a_job_whose_workers_all_go_away_dies,
                a_permanent_failure_kills_at_once,
                a_death_writes_the_follow_up_once,
                a_death_by_sweep_writes_the_follow_up_once,
                a_cancelled_job_writes_its_follow_up,
                a_job_that_ends_well_writes_no_follow_up,
                a_replayed_job_that_dies_again_has_a_second_follow_up,
                a_dead_job_is_replayed_with_all_its_attempts,
                only_a_dead_job_is_replayed,
                a_dead_job_is_not_replayed_beside_a_live_one_of_its_unique_key,
                a_queued_job_is_cancelled_at_once,
                a_heartbeat_tells_of_a_cancellation,
                a_cancelled_attempt_is_never_queued_again,
                a_job_that_has_ended_is_final,
                causes_are_written_with_the_settlement_or_not_at_all,
                the_same_request_twice_enqueues_one_job,
                jobs_of_others_are_not_found,
                a_list_holds_what_its_filter_names,
                pages_neither_repeat_nor_skip,
                the_next_due_job_is_the_earliest_of_its_queues,
                jobs_are_counted_by_queue_and_state,
                owners_take_turns,
                turns_are_remembered_between_claims,
                newcomers_do_not_starve_who_waits,
                an_owner_at_the_limit_is_passed_over,
                every_ending_makes_room_for_its_owner,
                a_paused_queue_gives_no_job,
                pausing_is_idempotent_and_shown,
                a_queue_is_measured_by_state,
                a_delayed_job_joins_the_others_in_rank_order,
                a_flood_of_delayed_jobs_is_claimed_to_the_last,
                a_group_is_followed_once_its_last_job_has_ended,
                however_a_member_ends_it_counts,
                a_member_that_is_tried_again_does_not_count,
                a_replayed_member_does_not_count_twice,
                a_group_none_of_whose_jobs_was_written_is_followed_at_once,
                a_fenced_completion_fans_nothing_out,
                dead_jobs_are_replayed_in_bulk,
                a_bulk_replay_keeps_to_its_filter,
                a_moment_of_a_schedule_has_one_job_whatever_the_number_of_nodes,
                a_schedule_waits_for_its_last_job,
                an_earlier_moment_is_never_made_up_for,
                a_schedule_noted_by_a_wrong_clock_begins_anew,
                a_lease_given_by_a_wrong_clock_is_freed,
                a_job_keeps_the_history_of_its_claims,
                ended_jobs_are_kept_for_their_time,
                an_enqueued_job_wakes_a_waiter,
                a_hint_wakes_one_waiter,
                a_hint_given_before_the_wait_is_kept,
                a_hint_wakes_no_waiter_of_another_queue,
                a_delayed_and_a_freed_job_are_hinted_at,
                waking_all_wakes_every_waiter,
            );
        }
    };
    (@claims $harness:expr; $($claim:ident),+ $(,)?) => { $(
        #[tokio::test]
        async fn $claim() {
            if let Some(h) = $harness.await {
                $crate::testkit::jobs::$claim(&h).await;
            }
        }
    )+ };
}
