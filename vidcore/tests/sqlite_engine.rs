//! The SQLite file among processes: who makes its schema, who hears of whose commits, and what
//! happens when its disk is full.

#![cfg(all(feature = "sqlite", feature = "testkit"))]

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Barrier, mpsc};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use vidcore::clock::ManualClock;
use vidcore::entropy::SeededEntropy;
use vidcore::events::NewChange;
use vidcore::id::JobId;
use vidcore::jobs::{JobError, JobFilter, JobStore, NewJob, QueueName};
use vidcore::notify::{ChangeListener, Notify, SqliteNotify};
use vidcore::store::sqlite::{FILE_NAME, Migrations, SCHEMA_VERSION, SqliteOptions, SqliteStore};
use vidcore::store::{Causes, Committed, StoreError};
use vidcore::testkit::store::PATIENCE;
use vidcore::testkit::{TestStore, require};

fn open(options: &SqliteOptions) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(options, Arc::new(ManualClock::default()), Vec::new())
}

fn options(folder: &Path) -> SqliteOptions {
    SqliteOptions { reader_threads: 1, ..SqliteOptions::new(folder.join(FILE_NAME)) }
}

fn new_job(clock: &ManualClock, entropy: &SeededEntropy) -> NewJob {
    use vidcore::clock::Clock as _;
    let now = clock.now();
    NewJob {
        id: JobId::new(now, entropy),
        queue: QueueName::new("test"),
        kind: "work".to_owned(),
        payload: serde_json::json!({"bytes": "x".repeat(2000)}),
        priority: 0,
        run_at: now,
        max_attempts: 1,
        unique_key: None,
        owner: None,
        video: None,
        on_dead: None,
        group: None,
        now,
    }
}

// Each opening takes the file lock through a descriptor of its own, so threads stand for processes.
#[test]
fn all_who_open_a_fresh_file_at_once_agree_on_its_schema() {
    let folder = tempfile::tempdir().expect("there is a temporary folder");
    let barrier = Barrier::new(8);
    std::thread::scope(|scope| {
        let openings: Vec<_> = (0..8)
            .map(|number| {
                let (mut options, barrier) = (options(folder.path()), &barrier);
                if number % 2 == 1 {
                    options.migrations = Migrations::Expect(PATIENCE);
                }
                scope.spawn(move || {
                    barrier.wait();
                    open(&options).map(drop)
                })
            })
            .collect();
        for opening in openings {
            opening.join().expect("opening does not panic").expect("it opens");
        }
    });
    let connection = rusqlite::Connection::open(folder.path().join(FILE_NAME)).expect("it opens");
    let (versions, newest): (u32, u32) = connection
        .query_row("SELECT count(*), max(version) FROM refinery_schema_history", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .expect("the history is there");
    // Each was applied once, whatever numbers they have.
    let files = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/sqlite");
    let files = std::fs::read_dir(files).expect("the migrations are there").count();
    assert_eq!((files, SCHEMA_VERSION), (versions as usize, newest));
}

#[test]
fn a_schema_newer_than_the_program_is_refused_at_once() {
    let folder = tempfile::tempdir().expect("there is a temporary folder");
    let mut options = options(folder.path());
    drop(open(&options).expect("a fresh file opens"));
    let connection = rusqlite::Connection::open(&options.path).expect("it opens");
    connection
        .execute("UPDATE refinery_schema_history SET version = 999 WHERE version = ?", [SCHEMA_VERSION])
        .expect("the history is changed");
    for migrations in [Migrations::Apply, Migrations::Expect(PATIENCE * 100)] {
        options.migrations = migrations;
        let error = open(&options).expect_err("it is refused");
        let cause = std::error::Error::source(&error).expect("it says why").to_string();
        assert!(cause.contains("999"), "{cause}");
    }
}

#[test]
fn who_expects_a_schema_that_nobody_makes_gives_up_and_leaves_no_file() {
    let folder = tempfile::tempdir().expect("there is a temporary folder");
    let mut options = options(folder.path());
    options.migrations = Migrations::Expect(Duration::ZERO);
    assert!(matches!(open(&options), Err(StoreError::Unavailable { .. })));
    assert!(!options.path.exists());
}

#[test]
fn who_expects_a_schema_waits_until_another_has_made_it() {
    let folder = tempfile::tempdir().expect("there is a temporary folder");
    let mut expecting = options(folder.path());
    expecting.migrations = Migrations::Expect(PATIENCE);
    // An empty file: a process that has begun and not yet got far.
    File::create(&expecting.path).expect("the folder can be written");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| open(&expecting).map(drop));
        open(&options(folder.path())).expect("a fresh file opens");
        waiting.join().expect("waiting does not panic").expect("the schema is there");
    });
}

#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Changed(Vec<String>),
    Missed,
    JobsDue,
}

#[derive(Debug)]
struct Ear(mpsc::Sender<Heard>);

impl ChangeListener for Ear {
    fn changed(&self, committed: &Committed) {
        let keys = committed.changes.iter().map(|change| change.key.clone()).collect();
        let _ = self.0.send(Heard::Changed(keys));
    }

    fn missed(&self, _: i64) {
        let _ = self.0.send(Heard::Missed);
    }

    fn jobs_due(&self) {
        let _ = self.0.send(Heard::JobsDue);
    }
}

#[tokio::test]
async fn what_one_process_commits_another_hears_and_tells_its_subscribers() {
    let test = TestStore::open().await;
    let writer = test.neighbour(Vec::new()).await;
    let (ear, heard) = mpsc::channel();
    let notify = Arc::new(SqliteNotify::new());
    let mut news = notify.subscribe();
    let clock = Arc::new(test.clock.clone());
    let interval = Duration::from_millis(5);
    notify.watch(&test.options().path, interval, clock, Arc::new(Ear(ear))).expect("it watches");
    let job = new_job(&test.clock, &test.entropy);
    writer.enqueue(job, Causes::none().change(NewChange::new("videos", "v1"))).await.expect("it commits");
    let heard = tokio::task::spawn_blocking(move || {
        let first = heard.recv_timeout(PATIENCE).expect("it hears of the change");
        (first, heard.recv_timeout(PATIENCE).expect("it hears of the job"))
    });
    let heard = heard.await.expect("listening does not panic");
    // A commit that falls between the check's two reads is heard of by its job first.
    let changed = || Heard::Changed(vec!["v1".to_owned()]);
    let either_order = [(changed(), Heard::JobsDue), (Heard::JobsDue, changed())];
    assert!(either_order.contains(&heard), "{heard:?}");
    let notice = tokio::time::timeout(PATIENCE, news.recv()).await.expect("in time").expect("the sender lives");
    assert_eq!(("videos", "v1"), (notice.topic.as_str(), notice.key.as_str()));
    assert!(notify.silence() < PATIENCE);
    notify.stop();
}

/// Runs this very test once more in a process of its own, `FOLDER` naming an empty folder; `prepare`
/// is a piece of shell run before it.
fn run_in_child(test: &str, wrapper: &[&str], prepare: &str, folder: &Path) {
    let program = std::env::current_exe().expect("a process knows its program");
    let script = format!(r#"{prepare} && exec "$0" --exact {test} --nocapture --test-threads 1"#);
    let output = Command::new(wrapper[0])
        .args(&wrapper[1..])
        .args(["sh", "-c", &script])
        .arg(program)
        .env("FOLDER", folder)
        .output()
        .expect("the child starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "{text}");
}

fn child_folder() -> Option<PathBuf> {
    std::env::var_os("FOLDER").map(PathBuf::from)
}

/// A store whose disk is going to be full, and the jobs it has acknowledged.
struct Disk {
    store: SqliteStore,
    options: SqliteOptions,
    clock: ManualClock,
    entropy: SeededEntropy,
    acknowledged: Vec<JobId>,
}

impl Disk {
    fn open(folder: &Path) -> Self {
        let options = options(folder);
        let store = open(&options).expect("there is room for an empty store");
        let (clock, entropy) = (ManualClock::default(), SeededEntropy::new(5));
        Self { store, options, clock, entropy, acknowledged: Vec::new() }
    }

    async fn enqueue(&mut self) -> Result<(), StoreError> {
        let job = new_job(&self.clock, &self.entropy);
        let id = job.id;
        match self.store.enqueue(job, Causes::none()).await {
            Ok(_) => {
                self.acknowledged.push(id);
                Ok(())
            }
            Err(JobError::Store(error)) => Err(error),
            Err(error) => panic!("not an outcome of a full disk: {error}"),
        }
    }

    /// Enqueues until there is no room.
    async fn fill(&mut self) -> StoreError {
        for _ in 0..5000 {
            if let Err(error) = self.enqueue().await {
                return error;
            }
        }
        panic!("the disk is never full");
    }

    /// Exactly what was acknowledged is there.
    async fn check(&self, store: &SqliteStore) {
        let mut found = Vec::new();
        for &id in &self.acknowledged {
            found.push(store.job(id).await.expect("reads go on").expect("what was acknowledged is there").id);
        }
        assert_eq!(self.acknowledged, found);
        let counts = store.job_counts().await.expect("reads go on");
        assert_eq!(self.acknowledged.len() as u64, counts.iter().map(|count| count.2).sum::<u64>());
        assert!(!store.jobs(&JobFilter::default(), None, 10).await.expect("reads go on").is_empty());
    }

    /// After there was room again: writes work, and a new process finds everything.
    async fn recovers(mut self) {
        self.enqueue().await.expect("it recovers by itself");
        self.check(&self.store).await;
        let reopened = open(&self.options).expect("a second process opens it");
        self.check(&reopened).await;
        let connection = rusqlite::Connection::open(&self.options.path).expect("it opens");
        let verdict: String =
            connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("the check runs");
        assert_eq!("ok", verdict);
    }
}

/// A file system of 1 MiB that only the child sees.
#[test]
fn a_full_disk_loses_nothing_that_was_acknowledged_and_is_recovered_from() {
    let name = "a_full_disk_loses_nothing_that_was_acknowledged_and_is_recovered_from";
    if let Some(folder) = child_folder() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        return runtime.block_on(fill_the_disk(&folder));
    }
    let mut wrapper = vec!["unshare", "--mount"];
    if !rustix::process::geteuid().is_root() {
        wrapper.extend(["--user", "--map-root-user"]);
    }
    let folder = tempfile::tempdir().expect("there is a temporary folder");
    let mount = r#"mount -t tmpfs -o size=2m none "$FOLDER""#;
    let trial = Command::new(wrapper[0])
        .args(&wrapper[1..])
        .args(["sh", "-c", mount])
        .env("FOLDER", folder.path())
        .output()
        .is_ok_and(|output| output.status.success());
    if require("a mount namespace of its own (unshare, mount)", trial) {
        run_in_child(name, &wrapper, mount, folder.path());
    }
}

async fn fill_the_disk(folder: &Path) {
    let mut disk = Disk::open(folder);
    disk.enqueue().await.expect("there is room");
    let ballast = folder.join("ballast");
    let mut file = File::create(&ballast).expect("there is room for a name");
    while file.write_all(&[0; 4096]).is_ok() {}
    let error = disk.fill().await;
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    assert!(error.is_retryable());
    assert!(disk.enqueue().await.is_err(), "it is still full");
    disk.check(&disk.store).await;
    drop(file);
    std::fs::remove_file(ballast).expect("it is removed");
    disk.recovers().await;
}

/// The other way in which a write of the system fails: an error of the device, here made by a limit
/// on the size of files.
#[test]
fn a_write_that_the_system_fails_loses_nothing_that_was_acknowledged() {
    let name = "a_write_that_the_system_fails_loses_nothing_that_was_acknowledged";
    if let Some(folder) = child_folder() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        return runtime.block_on(reach_the_limit(&folder));
    }
    let folder = tempfile::tempdir().expect("there is a temporary folder");
    // An ignored signal stays ignored in the program that is executed: the write fails with EFBIG.
    run_in_child(name, &["env"], "trap '' XFSZ", folder.path());
}

async fn reach_the_limit(folder: &Path) {
    let mut disk = Disk::open(folder);
    disk.enqueue().await.expect("there is no limit yet");
    let unlimited = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: Some(512 << 10), ..unlimited }).expect("a limit may be lowered");
    let error = disk.fill().await;
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    assert!(disk.enqueue().await.is_err(), "the limit is still there");
    disk.check(&disk.store).await;
    setrlimit(Resource::Fsize, unlimited).expect("up to the hard limit it may be raised");
    disk.recovers().await;
}
