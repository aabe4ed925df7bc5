//! What the scheduled jobs throw away, through the worker, and when.

use std::collections::BTreeMap;
use std::time::Duration;

use vidcore::catalog::{CatalogError, VideoStatus, Visibility};
use vidcore::housekeeping::HOUSEKEEPING_QUEUE;
use vidcore::id::{JobId, VideoId};
use vidcore::idempotency::IdempotencyKey;
use vidcore::jobs::worker::JobFailure;
use vidcore::jobs::{AfterFailure, Claim, Job, JobFilter, JobState, NewJob, QueueName};
use vidcore::page::PageLimit;
use vidcore::store::Causes;

use crate::studio::{Plan, Studio};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// As long as the settings keep a trashed video and a dead job.
const MONTH: Duration = Duration::from_secs(30 * 86_400);

/// Every kind and how often it runs.
const SCHEDULES: [(&str, Duration); 9] = [
    ("expire_uploads", Duration::from_secs(300)),
    ("purge_trash", HOUR),
    ("collect_objects", HOUR),
    ("drop_originals", Duration::from_secs(600)),
    ("prune_jobs", HOUR),
    ("prune_idempotency", HOUR),
    ("prune_changes", Duration::from_secs(600)),
    ("prune_sessions", HOUR),
    ("prune_viewers", Duration::from_secs(600)),
];

/// Jobs of the housekeeping, newest first.
async fn chores(studio: &Studio) -> Vec<Job> {
    let filter = JobFilter { queue: Some(QueueName::new(HOUSEKEEPING_QUEUE)), ..JobFilter::default() };
    studio.platform.store().jobs(&filter, None, 1000).await.expect("the store answers")
}

/// Moves time on by `step`, an hour or more, and waits until every kind has run to its end since.
pub(crate) async fn pass(studio: &Studio, step: Duration) {
    studio.clock.advance(step);
    let now = studio.platform.now();
    studio
        .eventually(async || {
            let jobs = chores(studio).await;
            let ran = |kind| jobs.iter().any(|job| job.kind == kind && job.created_at >= now);
            let all = SCHEDULES.into_iter().all(|(kind, _)| ran(kind));
            (all && jobs.iter().all(|job| job.state.is_final())).then_some(())
        })
        .await;
}

/// A studio whose schedules have all been seen: what comes next is fired.
async fn housekept(plan: Plan) -> Studio {
    seen(Studio::open(plan).await).await
}

/// The same of a studio that is open.
pub(crate) async fn seen(studio: Studio) -> Studio {
    // A first sight writes no job: the rows of the schedules say that it has taken place.
    let file = studio.folder().join(vidcore::store::sqlite::FILE_NAME);
    studio
        .eventually(async || {
            let db = rusqlite::Connection::open(&file).expect("the file opens");
            let seen: i64 = db.query_row("SELECT count(*) FROM job_schedules", [], |row| row.get(0)).ok()?;
            (seen == SCHEDULES.len() as i64).then_some(())
        })
        .await;
    studio
}

async fn trash(studio: &Studio, id: VideoId) {
    studio.platform.catalog().trash(&studio.actor, id, None, None).await.expect("it is not trashed");
}

async fn keys(studio: &Studio) -> Vec<String> {
    studio.platform.objects().keys_under("").await.expect("the disk answers")
}

async fn is_gone(studio: &Studio, id: VideoId) -> bool {
    studio.platform.store().video(id).await.expect("the store answers").is_none()
}

#[tokio::test]
async fn a_trashed_video_goes_for_good_once_its_time_is_over() {
    let studio = housekept(Plan::default()).await;
    let (kept, video) = (studio.ready(Visibility::Public).await, studio.ready(Visibility::Public).await);
    studio.send(video.id, b"more bytes".to_vec()).await;
    trash(&studio, video.id).await;
    pass(&studio, MONTH - DAY).await;
    assert!(!is_gone(&studio, video.id).await, "it can still be restored");
    pass(&studio, DAY + HOUR).await;
    assert!(is_gone(&studio, video.id).await);
    let left = keys(&studio).await;
    assert!(!left.is_empty() && left.iter().all(|key| key.contains(&kept.id.to_string())), "{left:?}");
    let usage = studio.platform.uploads().usage(&studio.actor).await.expect("the store answers");
    let fixture = crate::studio::read_fixture("landscape.mp4").len() as u64;
    assert_eq!((fixture, 0), (usage.stored_bytes, usage.reserved_bytes));
    let trashed = studio
        .platform
        .catalog()
        .of_owner(Some(&studio.actor), studio.actor.user, true, None, PageLimit::default())
        .await;
    assert!(trashed.expect("the store answers").items.is_empty());
    let restored = studio.platform.catalog().restore(&studio.actor, video.id, None, None).await;
    assert!(matches!(restored, Err(CatalogError::NotFound)));
    studio.close().await;
}

#[tokio::test]
async fn a_purge_that_a_crash_interrupted_goes_on() {
    let studio = housekept(Plan::default()).await;
    let videos = [studio.ready(Visibility::Public).await.id, studio.ready(Visibility::Public).await.id];
    for id in videos {
        trash(&studio, id).await;
    }
    studio.clock.advance(MONTH);
    // What two processes were through with when they were killed: the mark alone, and half of the objects.
    let store = studio.platform.store();
    for id in videos {
        match store.begin_purge(id, studio.platform.now()).await {
            Ok(_) | Err(CatalogError::NotFound) => {}
            Err(error) => panic!("the store answers: {error}"),
        }
    }
    let first = format!("originals/{}", videos[0]);
    studio.platform.objects().delete_under(&first).await.expect("the disk answers");
    studio.assert_sound().await;
    studio
        .in_time(HOUR, async || {
            let gone = is_gone(&studio, videos[0]).await && is_gone(&studio, videos[1]).await;
            gone.then_some(())
        })
        .await;
    assert!(keys(&studio).await.is_empty());
    studio.until_idle().await;
    studio.close().await;
}

#[tokio::test]
async fn more_than_one_share_of_trash_is_emptied_job_by_job() {
    let studio = housekept(Plan::default()).await;
    for _ in 0..25 {
        let draft = studio.draft(Visibility::Public).await;
        trash(&studio, draft.id).await;
    }
    pass(&studio, MONTH + HOUR).await;
    studio
        .eventually(async || {
            let left = studio.platform.store().videos_to_purge(studio.platform.now(), None, 100).await;
            left.expect("the store answers").is_empty().then_some(())
        })
        .await;
    studio.until_idle().await;
    let purges = chores(&studio).await.into_iter().filter(|job| job.kind == "purge_trash").count();
    assert!(purges >= 2, "one job takes twenty: {purges}");
    studio.close().await;
}

#[tokio::test]
async fn videos_that_cannot_be_purged_keep_no_other_back() {
    let studio = housekept(Plan::default()).await;
    let mut stuck = Vec::new();
    for _ in 0..25 {
        let draft = studio.draft(Visibility::Public).await;
        trash(&studio, draft.id).await;
        stuck.push(draft.id);
    }
    let db = rusqlite::Connection::open(studio.folder().join(vidcore::store::sqlite::FILE_NAME)).expect("it opens");
    db.execute_batch(
        "CREATE TRIGGER stuck BEFORE DELETE ON videos WHEN OLD.visibility = 'public'
         BEGIN SELECT RAISE(ABORT, 'stuck'); END",
    )
    .expect("the table is there");
    studio.clock.advance(MINUTE);
    let last = studio.draft(Visibility::Private).await;
    trash(&studio, last.id).await;
    studio.clock.advance(MONTH);
    studio.eventually(async || is_gone(&studio, last.id).await.then_some(())).await;
    assert!(!is_gone(&studio, stuck[0]).await);
    db.execute_batch("DROP TRIGGER stuck").expect("it is there");
    studio.clock.advance(HOUR);
    studio
        .eventually(async || {
            let left = studio.platform.store().videos_to_purge(studio.platform.now(), None, 100).await;
            left.expect("the store answers").is_empty().then_some(())
        })
        .await;
    studio.until_idle().await;
    studio.close().await;
}

#[tokio::test]
async fn an_upload_keeps_its_bytes_until_its_row_says_that_it_is_over() {
    let studio = housekept(Plan::default()).await;
    let draft = studio.draft(Visibility::Public).await;
    let upload = studio.send(draft.id, b"bytes".to_vec()).await;
    let db = rusqlite::Connection::open(studio.folder().join(vidcore::store::sqlite::FILE_NAME)).expect("it opens");
    db.execute_batch("CREATE TRIGGER stuck BEFORE UPDATE OF status ON uploads BEGIN SELECT RAISE(ABORT, 'stuck'); END")
        .expect("the table is there");
    pass(&studio, DAY.max(upload.expires_at.since(studio.platform.now())) + HOUR).await;
    assert_eq!(1, keys(&studio).await.len());
    db.execute_batch("DROP TRIGGER stuck").expect("it is there");
    pass(&studio, HOUR).await;
    assert!(keys(&studio).await.is_empty());
    studio.close().await;
}

#[tokio::test]
async fn what_a_killed_attempt_left_is_collected_within_the_hour() {
    let studio = housekept(Plan::default()).await;
    let video = studio.ready(Visibility::Public).await;
    let before = keys(&studio).await;
    let stray = format!("renditions/{}/77/360p/init.mp4", video.id);
    let bytes = futures_util::stream::iter([Ok(bytes::Bytes::from_static(b"left"))]);
    studio.platform.objects().write(&stray, bytes, 100).await.expect("there is room");
    assert!(!studio.platform.examine(false).await.expect("everything answers").is_sound());
    pass(&studio, HOUR).await;
    assert_eq!(before.len(), keys(&studio).await.len());
    studio.close().await;
}

#[tokio::test]
async fn a_collection_by_hand_is_the_same_as_the_job() {
    let studio = Studio::open(Plan { worker: false, ..Plan::default() }).await;
    let draft = studio.draft(Visibility::Public).await;
    let stray = format!("originals/{}/none", draft.id);
    let bytes = futures_util::stream::iter([Ok(bytes::Bytes::from_static(b"left"))]);
    studio.platform.objects().write(&stray, bytes, 100).await.expect("there is room");
    let collected = studio.platform.collect_objects().await.expect("everything answers");
    assert_eq!((1, false), (collected.objects, collected.more));
    studio.close().await;
}

#[tokio::test]
async fn without_a_worker_nothing_is_thrown_away() {
    let studio = Studio::open(Plan { worker: false, ..Plan::default() }).await;
    studio.clock.advance(HOUR);
    let draft = studio.draft(Visibility::Public).await;
    trash(&studio, draft.id).await;
    studio.clock.advance(2 * MONTH);
    assert!(chores(&studio).await.is_empty());
    assert!(!is_gone(&studio, draft.id).await);
    studio.close().await;
}

#[tokio::test]
async fn two_platforms_on_one_folder_fire_each_moment_once() {
    let studio = housekept(Plan::default()).await;
    let twin = studio.twin(Plan::default()).await;
    let moments = 12;
    for _ in 0..moments {
        // The shortest period: every moment of every schedule is passed by one step.
        let before = chores(&studio).await.len();
        studio.clock.advance(5 * MINUTE);
        studio
            .eventually(async || {
                let jobs = chores(&studio).await;
                (jobs.len() > before && jobs.iter().all(|job| job.state.is_final())).then_some(())
            })
            .await;
    }
    let expected: BTreeMap<String, u32> = SCHEDULES
        .into_iter()
        .map(|(kind, every)| {
            (kind.to_owned(), (u32::try_from((5 * MINUTE * moments).as_secs() / every.as_secs()).expect("few")))
        })
        .collect();
    let fired = studio
        .eventually(async || {
            let mut fired = BTreeMap::new();
            for job in chores(&studio).await {
                *fired.entry(job.kind).or_insert(0) += 1;
            }
            (fired.len() == SCHEDULES.len()).then_some(fired)
        })
        .await;
    assert_eq!(expected, fired);
    twin.shutdown().await;
    studio.close().await;
}

/// A job of the program's own in the given final state.
async fn ended(studio: &Studio, state: JobState) -> JobId {
    let (store, now) = (studio.platform.store(), studio.platform.now());
    let id = JobId::new(now, &vidcore::entropy::SystemEntropy);
    // Of a queue that no worker serves.
    let job = NewJob::new(id, "own", "own", serde_json::Value::Null, now);
    store.enqueue(job, Causes::none()).await.expect("the job is new");
    let queues = vec![QueueName::new("own")];
    let claim = Claim { queues, limit: 1, lease_for: MINUTE, worker: "test".to_owned(), per_owner: None };
    let lease = store.lease(claim).await.expect("the store answers").remove(0);
    match state {
        JobState::Done => store.complete(lease.fence(), Causes::none()).await.expect("the lease is held"),
        _ => {
            let why = JobFailure::Permanent("No.".to_owned()).to_string();
            store.fail(lease.fence(), why, AfterFailure::Dead).await.expect("the lease is held");
        }
    }
    id
}

#[tokio::test]
async fn ended_jobs_are_kept_for_their_time_and_dead_ones_longer() {
    let studio = housekept(Plan::default()).await;
    let (done, dead) = (ended(&studio, JobState::Done).await, ended(&studio, JobState::Dead).await);
    let there = async |id| studio.platform.store().job(id).await.expect("the store answers").is_some();
    pass(&studio, 6 * DAY).await;
    assert!(there(done).await && there(dead).await);
    pass(&studio, DAY + HOUR).await;
    assert!(!there(done).await && there(dead).await);
    pass(&studio, 23 * DAY + HOUR).await;
    assert!(!there(dead).await);
    // The housekeeping's own jobs are forgotten like any other's.
    let oldest = studio.platform.now().minus(8 * DAY);
    assert!(chores(&studio).await.iter().all(|job| job.created_at > oldest));
    studio.close().await;
}

#[tokio::test]
async fn what_is_remembered_of_requests_sessions_and_changes_is_forgotten() {
    let studio = housekept(Plan::default()).await;
    let key = IdempotencyKey { scope: "test".to_owned(), key: "once".to_owned(), fingerprint: [7; 32] };
    let draft = studio.draft(Visibility::Public).await;
    studio.platform.catalog().trash(&studio.actor, draft.id, None, Some(key)).await.expect("it is not trashed");
    let db = rusqlite::Connection::open(studio.folder().join(vidcore::store::sqlite::FILE_NAME)).expect("it opens");
    let rows = |table: &str| -> i64 {
        db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).expect("the table is there")
    };
    let remembered = ["idempotency", "sessions", "refresh_tokens", "changes"];
    assert!(remembered.into_iter().all(|table| rows(table) > 0));
    pass(&studio, 2 * HOUR).await;
    // Within their time all but the changes stay.
    assert_eq!(vec![1, 1, 1, 0], remembered.map(rows));
    pass(&studio, MONTH + HOUR).await;
    assert_eq!(0, rows("idempotency") + rows("sessions") + rows("refresh_tokens"));
    studio.close().await;
}

#[tokio::test]
async fn a_video_that_is_processed_when_it_is_purged_is_not_published_late() {
    let studio = housekept(Plan { transcoder: |builder| builder.encode_time(HOUR), ..Plan::default() }).await;
    studio.draft(Visibility::Public).await;
    let draft = studio.draft(Visibility::Public).await;
    studio.upload(draft.id, "no-audio.mp4").await;
    studio.until(draft.id, VideoStatus::Processing).await;
    trash(&studio, draft.id).await;
    let (store, over) = (studio.platform.store(), studio.platform.now().plus(MONTH));
    store.begin_purge(draft.id, over).await.expect("its time will be over");
    store.finish_purge(draft.id, Causes::none()).await.expect("the store answers");
    studio.stage.advance(2 * HOUR);
    studio.until_idle().await;
    assert!(is_gone(&studio, draft.id).await);
    // Its objects were not deleted here: the collection finds all of them.
    studio.platform.collect_objects().await.expect("everything answers");
    assert!(keys(&studio).await.is_empty());
    studio
        .in_time(MINUTE, async || {
            let scratch = std::fs::read_dir(studio.folder().join("scratch"));
            scratch.map_or(true, |mut entries| entries.next().is_none()).then_some(())
        })
        .await;
    studio.close().await;
}
