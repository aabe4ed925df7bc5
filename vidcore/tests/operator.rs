//! Jobs as owners, administrators and operators see and steer them.

#![cfg(all(feature = "sqlite", feature = "testkit"))]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use vidcore::Platform;
use vidcore::auth::{Actor, Role};
use vidcore::clock::ManualClock;
use vidcore::entropy::SystemEntropy;
use vidcore::id::{JobId, SessionId, UserId, VideoId};
use vidcore::jobs::worker::{JobContext, JobFailure, JobHandler};
use vidcore::jobs::{
    AfterFailure, AttemptOutcome, Claim, FollowUp, JOB_RESUMES, Job, JobActor, JobError, JobFilter, JobQuery, JobState,
    NewJob, QueueName, Replay,
};
use vidcore::media::simulated::SimulatedTranscoder;
use vidcore::page::PageLimit;
use vidcore::platform::{OpenError, Settings};
use vidcore::store::{Causes, Outcome};
use vidcore::testkit::store::temporary_folder;

/// A platform without a worker, and two people.
struct Desk {
    platform: Platform,
    clock: ManualClock,
    ada: Actor,
    eve: Actor,
    _folder: tempfile::TempDir,
}

impl Desk {
    async fn open() -> Self {
        let folder = temporary_folder().expect("there is a temporary folder");
        let clock = ManualClock::default();
        let mut settings = Settings { data_dir: folder.path().to_owned(), ..Settings::default() };
        settings.worker.enabled = false;
        let transcoder = SimulatedTranscoder::builder(Arc::new(clock.clone())).build();
        let platform = Platform::builder(settings)
            .clock(Arc::new(clock.clone()))
            .transcoder(Arc::new(transcoder))
            .open()
            .await
            .expect("a platform opens in an empty folder");
        let (ada, eve) = (actor(&platform, Role::User), actor(&platform, Role::User));
        Self { platform, clock, ada, eve, _folder: folder }
    }

    fn admin(&self) -> Actor {
        actor(&self.platform, Role::Admin)
    }

    fn new_job(&self, kind: &str) -> NewJob {
        let now = self.platform.now();
        NewJob::new(JobId::new(now, &SystemEntropy), "test", kind, Value::Null, now)
    }

    async fn enqueue(&self, job: NewJob) -> Job {
        self.platform.jobs().enqueue(job).await.expect("it is enqueued")
    }

    /// Claims the job that goes first in its queue and fails it.
    async fn fail(&self, queue: &QueueName, after: AfterFailure) {
        let claim = Claim {
            queues: vec![queue.clone()],
            limit: 1,
            lease_for: Duration::from_secs(60),
            worker: "somewhere".to_owned(),
            per_owner: None,
        };
        let lease = self.platform.store().lease(claim).await.expect("the store answers").pop().expect("it is due");
        let failed = self.platform.store().fail(lease.fence(), "inner words".to_owned(), after).await;
        failed.expect("it is held");
    }

    async fn dead(&self, job: NewJob) -> JobId {
        let job = self.enqueue(job).await;
        self.fail(&job.queue, AfterFailure::RetryAt(self.platform.now())).await;
        job.id
    }

    async fn state(&self, id: JobId) -> JobState {
        self.platform.store().job(id).await.expect("the store answers").expect("it is there").state
    }

    async fn replay(&self, by: impl Into<JobActor>, query: JobQuery) -> Replay {
        self.platform.jobs().replay(by, query, None).await.map(Outcome::into_inner).expect("the store answers")
    }
}

fn actor(platform: &Platform, role: Role) -> Actor {
    let now = platform.now();
    Actor { user: UserId::new(now, &SystemEntropy), session: SessionId::new(now, &SystemEntropy), role }
}

fn one() -> PageLimit {
    PageLimit::new(1).expect("within the bounds")
}

#[tokio::test]
async fn the_words_of_a_failure_are_for_operators_and_for_owners_only_where_they_are_meant_for_them() {
    let desk = Desk::open().await;
    let owned = || NewJob { owner: Some(desk.ada.user), max_attempts: 2, ..desk.new_job("work") };
    let job = desk.enqueue(owned()).await;
    desk.fail(&job.queue, AfterFailure::RetryAt(desk.platform.now())).await;
    desk.clock.advance(Duration::from_millis(1));
    let jobs = desk.platform.jobs();

    let hers = jobs.read(&desk.ada, job.id).await.expect("her own");
    let attempt = &hers.history[0];
    assert_eq!(
        (None, None, None, None),
        (hers.job.last_error, attempt.error.as_ref(), attempt.token, attempt.worker.as_ref())
    );
    assert_eq!((Some(AttemptOutcome::Failed), Some(job.created_at)), (attempt.outcome, attempt.ended_at));

    for by in [JobActor::Operator, JobActor::User(desk.admin())] {
        let all = jobs.read(by, job.id).await.expect("everybody's");
        assert_eq!(Some("inner words"), all.job.last_error.as_deref());
        let attempt = &all.history[0];
        assert_eq!((Some("inner words"), Some("somewhere")), (attempt.error.as_deref(), attempt.worker.as_deref()));
        assert!(attempt.token.is_some());
    }

    // A permanent failure is told to its owner; what was tried again before it is not.
    desk.fail(&job.queue, AfterFailure::Dead).await;
    let hers = jobs.read(&desk.ada, job.id).await.expect("her own");
    assert_eq!(Some("inner words"), hers.job.last_error.as_deref());
    let errors: Vec<_> = hers.history.iter().map(|attempt| attempt.error.as_deref()).collect();
    assert_eq!([Some("inner words"), None], *errors);
}

#[tokio::test]
async fn the_jobs_of_others_are_not_found_whatever_is_done_to_them() {
    let desk = Desk::open().await;
    let job = desk.dead(NewJob { owner: Some(desk.ada.user), ..desk.new_job("work") }).await;
    let nobodys = desk.enqueue(desk.new_job("work")).await.id;
    let jobs = desk.platform.jobs();
    for id in [job, nobodys] {
        assert!(matches!(jobs.read(&desk.eve, id).await, Err(JobError::NotFound)));
        assert!(matches!(jobs.retry(&desk.eve, id, None).await, Err(JobError::NotFound)));
        assert!(matches!(jobs.cancel(&desk.eve, id, None).await, Err(JobError::NotFound)));
    }
    let page = jobs.list(&desk.eve, JobQuery::default(), None, one()).await.expect("a page");
    assert!(page.items.is_empty());
    assert_eq!(Replay::default(), desk.replay(&desk.eve, JobQuery::default()).await);
    assert_eq!(JobState::Dead, desk.state(job).await);
}

#[tokio::test]
async fn jobs_are_listed_by_queue_kind_state_and_video_together() {
    let desk = Desk::open().await;
    let video = VideoId::new(desk.platform.now(), &SystemEntropy);
    let mail = || NewJob { queue: QueueName::new("mail"), ..desk.new_job("send") };
    let about = desk.enqueue(NewJob { video: Some(video), ..mail() }).await.id;
    let plain = desk.enqueue(mail()).await.id;
    let other = desk.enqueue(NewJob { queue: QueueName::new("mail"), ..desk.new_job("sort") }).await.id;
    let elsewhere = desk.dead(desk.new_job("send")).await;
    let (queue, kind) = (Some(QueueName::new("mail")), Some("send".to_owned()));
    for (query, expected) in [
        (JobQuery::default(), vec![about, plain, other, elsewhere]),
        (JobQuery { queue: queue.clone(), ..JobQuery::default() }, vec![about, plain, other]),
        (JobQuery { kind: kind.clone(), ..JobQuery::default() }, vec![about, plain, elsewhere]),
        (JobQuery { queue: queue.clone(), kind: kind.clone(), ..JobQuery::default() }, vec![about, plain]),
        (JobQuery { state: Some(JobState::Dead), kind: kind.clone(), ..JobQuery::default() }, vec![elsewhere]),
        (JobQuery { queue, kind, video: Some(video), state: Some(JobState::Queued) }, vec![about]),
    ] {
        let listed = desk.platform.jobs().list(JobActor::Operator, query.clone(), None, PageLimit::default()).await;
        let mut found: Vec<_> = listed.expect("a page").items.iter().map(|job| job.id).collect();
        let mut expected = expected;
        found.sort();
        expected.sort();
        assert_eq!(expected, found, "{query:?}");
    }
}

#[tokio::test]
async fn a_cursor_opens_only_the_query_and_the_scope_it_came_from() {
    let desk = Desk::open().await;
    let video = VideoId::new(desk.platform.now(), &SystemEntropy);
    for _ in 0..2 {
        desk.enqueue(NewJob { owner: Some(desk.ada.user), video: Some(video), ..desk.new_job("work") }).await;
    }
    let query = JobQuery {
        state: Some(JobState::Queued),
        queue: Some(QueueName::new("test")),
        kind: Some("work".to_owned()),
        video: Some(video),
    };
    let jobs = desk.platform.jobs();
    let page = jobs.list(&desk.ada, query.clone(), None, one()).await.expect("a page");
    let cursor = page.next_cursor.expect("there is a second page");
    let second = jobs.list(&desk.ada, query.clone(), Some(&cursor), one()).await.expect("a page");
    assert_eq!((1, None), (second.items.len(), second.next_cursor));
    for other in [
        JobQuery { state: None, ..query.clone() },
        JobQuery { queue: None, ..query.clone() },
        JobQuery { kind: None, ..query.clone() },
        JobQuery { video: None, ..query.clone() },
        // The values of two filters are not to be mistaken for each other's.
        JobQuery { queue: Some(QueueName::new("work")), kind: Some("test".to_owned()), ..query.clone() },
    ] {
        let refused = jobs.list(&desk.ada, other.clone(), Some(&cursor), one()).await;
        assert!(matches!(refused, Err(JobError::BadCursor)), "{other:?}");
    }
    for by in [JobActor::User(desk.eve), JobActor::Operator] {
        let refused = jobs.list(by, query.clone(), Some(&cursor), one()).await;
        assert!(matches!(refused, Err(JobError::BadCursor)), "{by:?}");
    }
}

#[tokio::test]
async fn owners_replay_their_own_dead_jobs_and_operators_all() {
    let desk = Desk::open().await;
    let hers = desk.dead(NewJob { owner: Some(desk.ada.user), ..desk.new_job("work") }).await;
    let nobodys = desk.dead(desk.new_job("work")).await;
    assert_eq!(Replay { replayed: 1, left_out: 0, more: false }, desk.replay(&desk.ada, JobQuery::default()).await);
    assert_eq!((JobState::Queued, JobState::Dead), (desk.state(hers).await, desk.state(nobodys).await));
    let other = JobQuery { kind: Some("other".to_owned()), ..JobQuery::default() };
    assert_eq!(Replay::default(), desk.replay(JobActor::Operator, other).await);
    assert_eq!(1, desk.replay(JobActor::Operator, JobQuery::default()).await.replayed);
    assert_eq!(JobState::Queued, desk.state(nobodys).await);
}

#[tokio::test]
async fn jobs_that_have_to_stay_dead_keep_none_behind_them_from_being_replayed() {
    let desk = Desk::open().await;
    let keyed = || NewJob { unique_key: Some("nightly".to_owned()), ..desk.new_job("nightly") };
    for _ in 0..3 {
        desk.dead(keyed()).await;
        desk.clock.advance(Duration::from_millis(1));
    }
    let behind = [desk.dead(desk.new_job("work")).await, desk.dead(desk.new_job("work")).await];
    desk.enqueue(keyed()).await;
    let replay = async |limit| {
        let step = desk.platform.store().replay(&JobFilter::default(), limit, Causes::none()).await;
        step.map(Outcome::into_inner).expect("the store answers")
    };
    assert_eq!(Replay { replayed: 1, left_out: 3, more: true }, replay(1).await);
    assert_eq!(Replay { replayed: 1, left_out: 3, more: false }, replay(1).await);
    assert_eq!([JobState::Queued; 2], [desk.state(behind[0]).await, desk.state(behind[1]).await]);
    assert_eq!(Replay { replayed: 0, left_out: 3, more: false }, replay(1).await);
}

#[tokio::test]
async fn of_dead_jobs_with_one_key_a_replay_queues_the_first() {
    let desk = Desk::open().await;
    let keyed = || NewJob { unique_key: Some("nightly".to_owned()), ..desk.new_job("nightly") };
    let first = desk.dead(keyed()).await;
    desk.clock.advance(Duration::from_millis(1));
    let second = desk.dead(keyed()).await;
    let all = desk.replay(JobActor::Operator, JobQuery::default()).await;
    assert_eq!(Replay { replayed: 1, left_out: 1, more: false }, all);
    assert_eq!((JobState::Queued, JobState::Dead), (desk.state(first).await, desk.state(second).await));
}

#[tokio::test]
async fn queues_are_for_administrators_and_operators() {
    let desk = Desk::open().await;
    desk.enqueue(desk.new_job("work")).await;
    let (jobs, queue) = (desk.platform.jobs(), QueueName::new("test"));
    for role in [Role::User, Role::Moderator] {
        let by = actor(&desk.platform, role);
        assert!(matches!(jobs.queues(&by).await, Err(JobError::Forbidden)));
        assert!(matches!(jobs.set_paused(&by, &queue, true, None).await, Err(JobError::Forbidden)));
    }
    let stats = jobs.queues(&desk.admin()).await.expect("an administrator's");
    assert_eq!([(&queue, 1, None)], *stats.iter().map(|q| (&q.queue, q.ready, q.paused_since)).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_queue_is_paused_and_goes_on_and_news_of_it_is_left_for_every_process() {
    let desk = Desk::open().await;
    let (jobs, queue) = (desk.platform.jobs(), QueueName::new("later"));
    let set = async |paused| {
        jobs.set_paused(JobActor::Operator, &queue, paused, None).await.map(Outcome::into_inner).expect("it is set")
    };
    let paused = set(true).await;
    assert_eq!((&queue, Some(desk.platform.now()), 0), (&paused.queue, paused.paused_since, paused.ready));
    let news = async || desk.platform.store().changes_after(0, 10).await.expect("the store answers");
    assert!(news().await.is_empty());
    assert_eq!(None, set(false).await.paused_since);
    assert_eq!([(JOB_RESUMES, "later")], *news().await.iter().map(|c| (&*c.topic, &*c.key)).collect::<Vec<_>>());
    assert!(jobs.queues(JobActor::Operator).await.expect("the queues").is_empty());
}

#[tokio::test]
async fn no_queue_can_have_a_name_that_is_none() {
    let desk = Desk::open().await;
    for name in ["", "Media", "a b", &"q".repeat(65)] {
        let refused = desk.platform.jobs().set_paused(JobActor::Operator, &QueueName::new(name), true, None).await;
        assert!(matches!(refused, Err(JobError::NotFound)), "{name:?}");
    }
    let longest = QueueName::new("q".repeat(64));
    desk.platform.jobs().set_paused(JobActor::Operator, &longest, true, None).await.expect("a name");
}

#[tokio::test]
async fn a_job_that_breaks_rules_is_refused_with_all_of_them_and_not_written() {
    let desk = Desk::open().await;
    let on_dead = FollowUp {
        id: JobId::new(desk.platform.now(), &SystemEntropy),
        queue: None,
        kind: "settle".to_owned(),
        payload: json!("x".repeat(65_536)),
        max_attempts: 1,
    };
    let bad = NewJob { priority: 11, max_attempts: 0, on_dead: Some(on_dead), ..desk.new_job("Bad") };
    let refused = desk.platform.jobs().enqueue(bad).await;
    let Err(JobError::Invalid(problems)) = refused else { panic!("expected problems, got {refused:?}") };
    let fields: Vec<_> = problems.iter().map(|problem| problem.field.as_str()).collect();
    assert_eq!(["/kind", "/max_attempts", "/priority", "/on_dead/payload"], *fields);
    assert!(desk.platform.jobs().queues(JobActor::Operator).await.expect("the queues").is_empty());
}

/// Runs nothing.
#[derive(Debug)]
struct Idle;

#[async_trait]
impl JobHandler for Idle {
    async fn run(&self, _: JobContext) -> Result<Causes, JobFailure> {
        Ok(Causes::none())
    }
}

#[tokio::test]
async fn a_queue_of_the_platforms_own_takes_no_handler_of_the_programs() {
    for queue in ["uploads", "video", "housekeeping"] {
        let folder = tempfile::tempdir().expect("there is a temporary folder");
        let settings = Settings { data_dir: folder.path().to_owned(), ..Settings::default() };
        let opened = Platform::builder(settings).handler(queue, "scan", Arc::new(Idle)).open().await;
        assert!(matches!(opened, Err(OpenError::OwnQueue { .. })), "{queue}");
    }
}
