//! `vidserver jobs` beside a live server.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use vidcore::Platform;
use vidcore::entropy::SystemEntropy;
use vidcore::id::{JobId, VideoId};
use vidcore::jobs::{AfterFailure, Claim, Job, JobState, NewJob, QueueName};
use vidcore::platform::Settings;
use vidcore::platform::settings::TranscoderChoice;

use crate::cli::{Killed, Served, output, vidserver};
use crate::support::bounded;

/// A server in a folder of its own, and somebody else on that folder who makes jobs.
struct Site {
    served: Served,
    platform: Platform,
}

impl Site {
    async fn start(flags: &[&str]) -> Self {
        let (served, _, _) = Served::start_in(tempfile::tempdir().expect("a folder"), flags);
        let platform = neighbour(served.folder.path()).await;
        Self { served, platform }
    }

    /// What the command prints.
    #[track_caller]
    fn jobs(&self, arguments: &[&str]) -> String {
        jobs(self.served.folder.path(), arguments).expect("it succeeds")
    }

    /// What the command complains of.
    #[track_caller]
    fn refused(&self, arguments: &[&str]) -> String {
        jobs(self.served.folder.path(), arguments).expect_err("it fails")
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let printed = self.jobs(&[arguments, &["--json"]].concat());
        printed.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
    }

    /// Waits until a worker has tried the job.
    async fn tried(&self, id: JobId) {
        bounded(async {
            while job(&self.platform, id).await.attempts == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    async fn end(self) {
        self.platform.shutdown().await;
        self.served.signal(Signal::TERM);
        assert!(self.served.end().await.success());
    }
}

/// The data of the server in `folder`, without a worker.
async fn neighbour(folder: &Path) -> Platform {
    let mut settings = Settings { data_dir: folder.join("vid-data"), ..Settings::default() };
    settings.worker.enabled = false;
    settings.media.transcoder = TranscoderChoice::Simulated;
    Platform::open(settings).await.expect("it opens")
}

fn jobs(folder: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = output(vidserver(&[&["jobs"], arguments].concat()).current_dir(folder));
    let text = |bytes| String::from_utf8(bytes).expect("text");
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

fn new_job(platform: &Platform, queue: &str, kind: &str) -> NewJob {
    let now = platform.now();
    NewJob::new(JobId::new(now, &SystemEntropy), queue, kind, Value::Null, now)
}

async fn enqueue(platform: &Platform, job: NewJob) -> JobId {
    platform.jobs().enqueue(job).await.expect("it is enqueued").id
}

async fn job(platform: &Platform, id: JobId) -> Job {
    platform.store().job(id).await.expect("the store answers").expect("it is there")
}

/// A job that is dead, in a queue no worker knows.
async fn dead(platform: &Platform, unique_key: Option<&str>) -> JobId {
    let unique_key = unique_key.map(str::to_owned);
    bury(platform, NewJob { unique_key, ..new_job(platform, "own", "work") }).await
}

async fn dead_about(platform: &Platform, video: Option<VideoId>) -> JobId {
    bury(platform, NewJob { video, ..new_job(platform, "own", "work") }).await
}

async fn bury(platform: &Platform, job: NewJob) -> JobId {
    let id = enqueue(platform, job).await;
    let (queues, lease_for) = (vec![QueueName::new("own")], Duration::from_secs(60));
    let claim = Claim { queues, limit: 1, lease_for, worker: "inside".to_owned(), per_owner: None };
    let lease = platform.store().lease(claim).await.expect("the store answers").pop().expect("it is due");
    assert_eq!(id, lease.job.id);
    let error = "inner words\u{1b}[2J".to_owned();
    platform.store().fail(lease.fence(), error, AfterFailure::Dead).await.expect("it is held");
    id
}

#[tokio::test]
async fn jobs_are_listed_and_shown_with_all_that_is_known() {
    let site = Site::start(&["--no-worker"]).await;
    let buried = dead(&site.platform, None).await.to_string();
    let waiting = enqueue(&site.platform, new_job(&site.platform, "media", "process_video")).await.to_string();

    let all = site.jobs(&["list"]);
    let rows: Vec<Vec<&str>> = all.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(
        [(&*waiting, "queued", "0/1"), (&*buried, "dead", "1/1")],
        *rows.iter().map(|row| (row[0], row[3], row[4])).collect::<Vec<_>>()
    );
    assert!(rows[1][7].starts_with("inner words") && !all.contains('\u{1b}'), "{all}");
    for (filter, id) in [
        (["--state", "dead"], &buried),
        (["--queue", "media"], &waiting),
        (["--kind", "work"], &buried),
        (["--limit", "1"], &waiting),
    ] {
        let found = site.json(&[&["list"], &filter[..]].concat());
        assert_eq!(
            vec![id],
            found.iter().map(|job| job["id"].as_str().expect("an id")).collect::<Vec<_>>(),
            "{filter:?}"
        );
    }
    assert_eq!("", site.jobs(&["list", "--video", "video_00000000000000000000000000"]));

    let shown = site.jobs(&["show", &buried]);
    assert!(shown.contains(&format!("id\t{buried}\n")) && shown.contains("\tinside\t"), "{shown}");
    let shown = site.json(&["show", &buried]).remove(0);
    assert_eq!(
        ("permanent", "inside"),
        (shown["death"].as_str().expect("why"), shown["history"][0]["worker"].as_str().expect("who"))
    );
    let absent = site.refused(&["show", "job_00000000000000000000000000"]);
    assert!(absent.contains("job not found"), "{absent}");
    for bad in [["--state", "running"], ["--queue", "No"], ["--limit", "0"], ["--watch", "0"]] {
        let refused = site.refused(&[&["list"], &bad[..]].concat());
        assert!(refused.contains(bad[0]), "{refused}");
    }
    site.end().await;
}

#[tokio::test]
async fn a_list_is_as_long_as_it_is_wanted() {
    let site = Site::start(&["--no-worker"]).await;
    for _ in 0..102 {
        enqueue(&site.platform, new_job(&site.platform, "own", "work")).await;
    }
    // A page holds 100.
    for (limit, expected) in [("100", 100), ("101", 101), ("10000", 102)] {
        assert_eq!(expected, site.jobs(&["list", "--limit", limit]).lines().count());
    }
    site.end().await;
}

#[tokio::test]
async fn jobs_are_retried_and_cancelled_one_by_one() {
    let site = Site::start(&["--no-worker"]).await;
    let id = dead(&site.platform, None).await;
    let text = id.to_string();
    assert_eq!(format!("{text} is queued again\n"), site.jobs(&["retry", &text]));
    let refused = site.refused(&["retry", &text]);
    assert!(refused.contains("a job that is queued cannot be retried"), "{refused}");
    assert_eq!("cancelled", site.json(&["cancel", &text])[0]["state"]);
    assert!(job(&site.platform, id).await.finished_at.is_some());
    assert!(site.refused(&["cancel", &text]).contains("cannot be cancelled"));
    site.end().await;
}

#[tokio::test]
async fn dead_jobs_are_replayed_until_only_those_are_left_that_have_to_stay() {
    let site = Site::start(&["--no-worker"]).await;
    for key in [None, Some("nightly"), Some("nightly")] {
        dead(&site.platform, key).await;
    }
    assert_eq!("0 queued again\n", site.jobs(&["replay", "--kind", "other"]));
    assert_eq!("0 queued again\n", site.jobs(&["replay", "--queue", "media"]));
    let said = site.jobs(&["replay", "--queue", "own"]);
    assert_eq!("2 queued again\n1 left dead: a live job has the same unique key\n", said);
    assert_eq!(serde_json::json!({"replayed": 0, "left_out": 1, "more": false}), site.json(&["replay"])[0]);
    assert_eq!(1, site.json(&["list", "--state", "dead"]).len());
    site.end().await;
}

#[tokio::test]
async fn dead_jobs_about_one_video_are_replayed_alone() {
    let site = Site::start(&["--no-worker"]).await;
    let video = VideoId::new(site.platform.now(), &SystemEntropy);
    dead(&site.platform, None).await;
    let about = dead_about(&site.platform, Some(video)).await;
    let other = VideoId::new(site.platform.now(), &SystemEntropy).to_string();
    assert_eq!("0 queued again\n", site.jobs(&["replay", "--video", &other]));
    assert_eq!("1 queued again\n", site.jobs(&["replay", "--video", &video.to_string()]));
    assert_eq!(JobState::Queued, job(&site.platform, about).await.state);
    site.end().await;
}

#[tokio::test]
async fn a_live_worker_leaves_a_paused_queue_alone_until_it_is_resumed() {
    let site = Site::start(&[]).await;
    assert_eq!("uploads is paused: 0 waiting, 0 running, 0 dead\n", site.jobs(&["pause", "uploads"]));
    let held = enqueue(&site.platform, new_job(&site.platform, "uploads", "verify_upload")).await;
    let other = enqueue(&site.platform, new_job(&site.platform, "media", "process_video")).await;
    site.tried(other).await;
    assert_eq!(0, job(&site.platform, held).await.attempts);
    let queues = site.json(&["queues"]);
    let uploads = queues.iter().find(|queue| queue["queue"] == "uploads").expect("it is paused");
    assert_eq!((1, true), (uploads["ready"].as_u64().expect("a number"), uploads["paused_since"].is_string()));
    assert!(site.jobs(&["queues"]).contains("uploads\t1\t0\t0\t0\t"));
    assert_eq!(Value::Null, site.json(&["resume", "uploads"])[0]["paused_since"]);
    site.tried(held).await;
    assert!(site.refused(&["pause", "No"]).contains("lower-case letters"));
    site.end().await;
}

#[tokio::test]
async fn queues_are_shown_as_figures() {
    let folder = tempfile::tempdir().expect("a folder");
    assert!(output(vidserver(&["migrate"]).current_dir(folder.path())).status.success());
    jobs(folder.path(), &["pause", "media"]).expect("it is paused");
    let platform = neighbour(folder.path()).await;
    dead(&platform, None).await;
    enqueue(&platform, new_job(&platform, "media", "process_video")).await;
    platform.shutdown().await;

    // The first figures are those of its start.
    let (served, _, metrics) = Served::start_in(folder, &[]);
    let wanted = [
        "vid_queue_paused{queue=\"media\"} 1",
        "vid_queue_paused{queue=\"own\"} 0",
        "vid_jobs{queue=\"media\",state=\"ready\"} 1",
        "vid_jobs{queue=\"media\",state=\"running\"} 0",
        "vid_jobs{queue=\"own\",state=\"dead\"} 1",
        "vid_jobs_oldest_seconds{queue=\"own\"} 0",
    ];
    bounded(async {
        loop {
            let page = reqwest::get(format!("http://{metrics}/metrics")).await.expect("an answer");
            let page = page.text().await.expect("text");
            if wanted.iter().all(|figure| page.lines().any(|line| line == *figure)) {
                assert!(page.contains("vid_jobs_oldest_seconds{queue=\"media\"} "), "{page}");
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    served.signal(Signal::TERM);
    assert!(served.end().await.success());
}

#[tokio::test]
async fn a_watch_prints_its_rows_again_and_again_until_it_is_interrupted() {
    let site = Site::start(&["--no-worker"]).await;
    let id = enqueue(&site.platform, new_job(&site.platform, "own", "work")).await.to_string();
    let mut command = vidserver(&["jobs", "list", "--watch", "1"]);
    command.current_dir(site.served.folder.path()).stdout(Stdio::piped());
    let mut watch = Killed(command.spawn().expect("the program starts"));
    let mut lines = BufReader::new(watch.0.stdout.take().expect("piped")).lines();
    // The child stays here: where a wait fails, it is killed and what reads from it ends.
    let reading = tokio::task::spawn_blocking(move || {
        let first: Vec<String> = lines.by_ref().take(2).map(|line| line.expect("text")).collect();
        (first, lines)
    });
    let (seen, lines) = bounded(reading).await.expect("no panic");
    assert!(seen.iter().all(|line| line.starts_with(&id)), "{seen:?}");
    kill_process(Pid::from_child(&watch.0), Signal::INT).expect("the child is ours");
    let rest = tokio::task::spawn_blocking(move || lines.for_each(drop));
    bounded(rest).await.expect("no panic");
    assert!(watch.0.wait().expect("the child is ours").success());
    site.end().await;
}

#[test]
fn a_folder_without_a_database_is_refused_and_stays_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let refused = jobs(folder.path(), &["list"]).expect_err("there is nothing");
    assert!(refused.contains("there is no database in vid-data"), "{refused}");
    assert_eq!(0, folder.path().read_dir().expect("it is there").count());
}

#[test]
fn a_schema_of_another_version_is_refused_and_not_migrated() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("vid-data")).expect("a folder");
    let file = folder.path().join("vid-data/vidcore.db");
    std::fs::write(&file, b"").expect("an empty file, which is an empty database");
    let refused = jobs(folder.path(), &["list"]).expect_err("it is of no version");
    assert!(refused.contains("schema"), "{refused}");
    assert_eq!(0, file.metadata().expect("it is there").len());
}
