//! A full disk while jobs are claimed, kept, ended and fired: made by a limit on the pages of the file, which
//! SQLite answers as it does a disk without room.

use rusqlite::types::ValueRef;

use super::*;
use crate::id::JobId;
use crate::jobs::{AfterFailure, Claim, JobError, JobState, JobStore, Lease, NewJob, QueueName};

/// More than the file has room for within the pages it has.
const TOO_LARGE: usize = 1 << 20;

const LEASE: Duration = Duration::from_secs(20);

/// What a job engine writes to.
const TABLES: [&str; 5] = ["jobs", "job_attempts", "job_groups", "job_schedules", "changes"];

fn too_large() -> String {
    "x".repeat(TOO_LARGE)
}

impl Engine {
    /// Lets the file have no more pages than it has.
    async fn fill_disk(&self) {
        self.limit_pages(1).await;
    }

    async fn make_room(&self) {
        self.limit_pages(1 << 30).await;
    }

    /// A limit below the size of the file is taken for its size.
    async fn limit_pages(&self, pages: u32) {
        let limit = self.store().command("limit the pages", Causes::none(), move |db, _| {
            let limit = format!("PRAGMA max_page_count = {pages}");
            Ok::<i64, Fail<StoreError>>(db.query_row(&limit, [], |row| row.get(0))?)
        });
        limit.await.expect("the limit is set");
    }

    fn new_job(&self, payload: &str) -> NewJob {
        let now = self.test.clock.now();
        let id = JobId::new(now, &*self.test.entropy);
        NewJob { max_attempts: 3, ..NewJob::new(id, "test", "work", payload.into(), now) }
    }

    async fn enqueue(&self) -> JobId {
        let job = self.new_job("small");
        self.store().enqueue(job, Causes::none()).await.expect("there is room").into_inner().id
    }

    async fn claim(&self, worker: &str) -> Result<Vec<Lease>, JobError> {
        let claim = Claim {
            queues: vec![QueueName::new("test")],
            limit: 1,
            lease_for: LEASE,
            worker: worker.to_owned(),
            per_owner: None,
        };
        self.store().lease(claim).await
    }

    /// A job that is claimed.
    async fn leased(&self) -> Lease {
        self.enqueue().await;
        self.claim("worker").await.expect("there is room").remove(0)
    }

    async fn state(&self, job: JobId) -> JobState {
        self.store().job(job).await.expect("reads work").expect("it is there").state
    }

    /// A schedule that has begun, and its next moment: the first one only says from when on it counts.
    async fn begin_schedule(&self) -> Timestamp {
        let first = self.test.clock.now();
        self.store().fire("daily", first, self.new_job("none")).await.expect("there is room");
        first.plus(Duration::from_secs(1))
    }

    /// Every row of every table of jobs.
    async fn everything(&self) -> Vec<String> {
        let rows = self.store().read("read everything", |db| {
            let mut rows = Vec::new();
            for table in TABLES {
                let mut all = db.prepare(&format!("SELECT * FROM {table}"))?;
                let columns = all.column_count();
                let text = |row: &rusqlite::Row<'_>| {
                    let values = (0..columns).map(|column| row.get_ref(column));
                    Ok(format!("{table} {:?}", values.collect::<rusqlite::Result<Vec<ValueRef<'_>>>>()?))
                };
                rows.extend(all.query_map([], text)?.collect::<rusqlite::Result<Vec<_>>>()?);
            }
            Ok::<_, Fail<StoreError>>(rows)
        });
        rows.await.expect("reads work")
    }

    /// What comes of an attempt once there is room, after one on the full disk that wrote nothing.
    async fn once_there_is_room<T: std::fmt::Debug>(&self, attempt: impl AsyncFn() -> Result<T, JobError>) -> T {
        let before = self.everything().await;
        self.fill_disk().await;
        // Twice: the writer is as sound after the first as it was before.
        for _ in 0..2 {
            let refused = attempt().await;
            assert!(is_full(&refused), "{refused:?}");
        }
        assert_eq!(before, self.everything().await);
        self.make_room().await;
        attempt().await.expect("there is room")
    }
}

fn is_full<T>(answer: &Result<T, JobError>) -> bool {
    matches!(answer, Err(JobError::Store(StoreError::Full { .. })))
}

#[tokio::test]
async fn a_claim_on_a_full_disk_writes_nothing_and_is_made_once_there_is_room() {
    let engine = Engine::open(|_| {}).await;
    let job = engine.enqueue().await;
    let worker = too_large();
    let leases = engine.once_there_is_room(async || engine.claim(&worker).await).await;
    assert_eq!([(job, 1)], *leases.iter().map(|lease| (lease.job.id, lease.job.attempts)).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_completion_on_a_full_disk_writes_nothing_and_is_made_once_there_is_room() {
    let engine = Engine::open(|_| {}).await;
    let lease = engine.leased().await;
    let next = engine.new_job(&too_large());
    let causes = Causes::none().job(next.clone());
    engine.once_there_is_room(async || engine.store().complete(lease.fence(), causes.clone()).await).await;
    assert_eq!((JobState::Done, JobState::Queued), (engine.state(lease.job.id).await, engine.state(next.id).await));
}

#[tokio::test]
async fn a_failure_on_a_full_disk_writes_nothing_and_is_recorded_once_there_is_room() {
    let engine = Engine::open(|_| {}).await;
    let lease = engine.leased().await;
    let after = AfterFailure::RetryAt(engine.test.clock.now());
    let failed = async || engine.store().fail(lease.fence(), too_large(), after).await;
    assert_eq!(JobState::Queued, engine.once_there_is_room(failed).await);
}

#[tokio::test]
async fn a_schedule_on_a_full_disk_writes_nothing_and_is_fired_once_there_is_room() {
    let engine = Engine::open(|_| {}).await;
    let (slot, job) = (engine.begin_schedule().await, engine.new_job(&too_large()));
    assert!(engine.once_there_is_room(async || engine.store().fire("daily", slot, job.clone()).await).await);
    assert!(!engine.store().fire("daily", slot, job).await.expect("there is room"), "its moment is used up");
}

/// Whether SQLite gives up the whole transaction or the one statement is its own choice.
#[tokio::test]
async fn in_a_group_that_meets_a_full_disk_everybody_is_told_what_happened() {
    let engine = Engine::open(|_| {}).await;
    let (beating, ending) = (engine.leased().await, engine.leased().await);
    let slot = engine.begin_schedule().await;
    engine.fill_disk().await;
    let plug = engine.plug().await;
    let (store, late) = (engine.store(), engine.new_job(&too_large()));
    let mut group = Box::pin(async {
        tokio::join!(
            store.heartbeat(beating.fence(), LEASE, Some(500)),
            store.fire("daily", slot, late.clone()),
            store.complete(ending.fence(), Causes::none()),
        )
    });
    assert!((&mut group).now_or_never().is_none());
    plug.pull().await;
    let (beat, fired, completed) = group.await;
    assert!(is_full(&fired), "{fired:?}");
    assert!(store.job(late.id).await.expect("reads work").is_none());
    let progress = store.job(beating.job.id).await.expect("reads work").expect("it is there").progress;
    assert_eq!((beat.is_ok(), beat.is_err()), (progress == 500, is_full(&beat)));
    let done = engine.state(ending.job.id).await == JobState::Done;
    assert_eq!((completed.is_ok(), completed.is_err()), (done, is_full(&completed)));
    engine.make_room().await;
    assert!(store.fire("daily", slot, late).await.expect("there is room"), "its moment is not used up");
}
