//! How long a job waits on an idle queue: from the answer to its enqueue until its handler begins.

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use tokio::sync::mpsc;
use vidcore::Platform;
use vidcore::clock::{Clock as _, SystemClock};
use vidcore::jobs::JobStore as _;
use vidcore::jobs::worker::{JobContext, JobFailure, JobHandler};
use vidcore::platform::Settings;
use vidcore::platform::settings::{RedisSettings, TranscoderChoice};
use vidcore::store::Causes;
use vidcore::store::sqlite::{FILE_NAME, Migrations};
use vidcore::testkit::jobs::BareLoop;

use crate::Failure;
use crate::child::processor_time_of;
use crate::jobs::{QUEUE, Site, new_job};

/// How long the queue is idle before each job.
const IDLE: Duration = Duration::from_millis(20);

/// How long a worker process is watched doing nothing.
const WATCH: Duration = Duration::from_secs(10);

/// Waits in milliseconds.
#[derive(Debug, Clone, Default)]
pub struct Waits(Vec<f64>);

impl Waits {
    /// The wait that `share` of all are not longer than.
    pub fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let index = (sorted.len() as f64 * share).ceil() as usize;
        sorted.get(index.saturating_sub(1)).copied().unwrap_or(0.0)
    }
}

/// Says when it began.
#[derive(Debug)]
struct Tells(mpsc::UnboundedSender<Instant>);

#[async_trait]
impl JobHandler for Tells {
    async fn run(&self, _: JobContext) -> Result<Causes, JobFailure> {
        // Nobody listens any more once the measurement is over.
        let _ = self.0.send(Instant::now());
        Ok(Causes::none())
    }
}

/// Waits of `jobs` jobs in one process, and beside each the time of one bare commit of a job on a file
/// of its own.
///
/// # Errors
/// The store refuses.
pub async fn in_process(folder: &Path, jobs: usize) -> Result<(Waits, Waits), Failure> {
    let (ours, twin) = (folder.join("ours"), folder.join("twin"));
    std::fs::create_dir_all(&ours)?;
    std::fs::create_dir_all(&twin)?;
    drop(Site::open(&twin)?);
    let mut bare = BareLoop::open(&twin.join(FILE_NAME))?;
    let site = Site::open(&ours)?;
    let (tell, mut began) = mpsc::unbounded_channel();
    let worker = site.worker(Arc::new(Tells(tell)))?;
    let (mut waits, mut commits) = (Waits::default(), Waits::default());
    for _ in 0..jobs {
        tokio::time::sleep(IDLE).await;
        let begun = Instant::now();
        bare.enqueue(vec![new_job()], SystemClock::new().now())?;
        commits.0.push(millis(begun.elapsed()));
        tokio::time::sleep(IDLE).await;
        site.store.enqueue(new_job(), Causes::none()).await?;
        let answered = Instant::now();
        let began = began.recv().await.ok_or("the worker ended")?;
        waits.0.push(millis(began.saturating_duration_since(answered)));
    }
    worker.stop().await;
    Ok((waits, commits))
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Writes the moment to standard output for another process to read.
#[derive(Debug)]
struct Prints;

#[async_trait]
impl JobHandler for Prints {
    async fn run(&self, _: JobContext) -> Result<Causes, JobFailure> {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
        let mut out = std::io::stdout().lock();
        // The reader may have gone; then nothing is measured any more.
        let _ = writeln!(out, "{now}").and_then(|()| out.flush());
        Ok(Causes::none())
    }
}

/// Settings of both processes; with a Redis, hints go through it.
pub fn settings(folder: &Path, redis: Option<RedisSettings>) -> Settings {
    let mut settings = Settings { data_dir: folder.to_owned(), ..Settings::default() };
    settings.media.transcoder = TranscoderChoice::Simulated;
    settings.redis = redis.unwrap_or_default();
    settings
}

/// Works on the jobs of [`QUEUE`] until standard input is closed: the other process of a pair.
///
/// # Errors
/// The folder cannot be used.
pub async fn work(mut settings: Settings) -> Result<(), Failure> {
    settings.worker.enabled = true;
    let platform = Platform::builder(settings)
        .migrations(Migrations::Expect(Duration::from_secs(20)))
        .handler(QUEUE, QUEUE, Arc::new(Prints))
        .open()
        .await?;
    println!("ready");
    tokio::task::spawn_blocking(|| std::io::stdin().lines().for_each(drop)).await?;
    platform.shutdown().await;
    Ok(())
}

/// A worker process of this program; killed and reaped when dropped.
struct WorkerProcess {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl WorkerProcess {
    fn start(settings: &Settings) -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("work")
            .arg(&settings.data_dir)
            .args([settings.redis.url.expose(), &settings.redis.prefix])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let out = child.stdout.take().ok_or("its output is a pipe")?;
        let mut process = Self { child, lines: BufReader::new(out).lines() };
        match process.line()?.as_str() {
            "ready" => Ok(process),
            other => Err(format!("the worker said {other}").into()),
        }
    }

    fn line(&mut self) -> Result<String, Failure> {
        Ok(self.lines.next().ok_or("the worker ended")??)
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a pair of processes on one file takes.
#[derive(Debug)]
pub struct Pair {
    /// From the answer in one process to the handler's beginning in the other.
    pub waits: Waits,
    /// Processor time of an idle worker process, as a share of one processor.
    pub idle_share: f64,
}

/// Waits of `jobs` jobs that one process enqueues and another one runs.
///
/// # Errors
/// The folder cannot be used.
pub async fn across_processes(mut settings: Settings, jobs: usize) -> Result<Pair, Failure> {
    settings.worker.enabled = false;
    let platform = Platform::open(settings.clone()).await?;
    let mut worker = WorkerProcess::start(&settings)?;
    let mut waits = Waits::default();
    for number in 0..jobs {
        // Not always at the same distance from the last look of the other process.
        tokio::time::sleep(IDLE + Duration::from_micros((number as u64 * 7919) % 25_000)).await;
        platform.jobs().enqueue(new_job()).await?;
        let answered = SystemTime::UNIX_EPOCH.elapsed()?.as_nanos();
        let began: u128 = worker.line()?.parse()?;
        waits.0.push(began.saturating_sub(answered) as f64 / 1e6);
    }
    let before = processor_time_of(worker.child.id())?;
    tokio::time::sleep(WATCH).await;
    let spent = processor_time_of(worker.child.id())?.saturating_sub(before);
    platform.shutdown().await;
    Ok(Pair { waits, idle_share: spent.as_secs_f64() / WATCH.as_secs_f64() })
}
