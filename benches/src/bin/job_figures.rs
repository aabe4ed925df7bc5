//! The figures of the job engine, each beside its twin or its bound, in one run.
//!
//! Jobs do nothing. The database is a file in the temporary folder with `synchronous=FULL`, for the engine
//! and for the bare loop alike.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use benches::Failure;
use benches::jobs::depth::Depth;
use benches::jobs::{SLOTS, Site, bullmq, pickup, throughput};
use benches::report::{Bound, Figure, median};
use clap::{Parser, Subcommand};
use vidcore::jobs::dispatcher::RedisDispatcher;
use vidcore::platform::settings::{RedisSettings, Secret};
use vidcore::testkit::redis::TestRedis;

/// Consumers of the second measurement of throughput.
const MANY: usize = 8;

/// Callers who enqueue at once.
const CALLERS: usize = 64;

/// Turns of the two queues that are compared, before they change places.
const TURNS: usize = 50;

/// Figures of the job engine
#[derive(Debug, Parser)]
struct Options {
    #[command(subcommand)]
    role: Option<Role>,
    /// Jobs of each measurement of throughput
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1000..=1_000_000))]
    jobs: u32,
    /// Rounds of each
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// Jobs of each measurement of pick-up
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    picks: u32,
    /// Jobs of the deep queue; a million takes about a gigabyte of temporary space
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(10_000..=10_000_000))]
    deep: u32,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Work on the jobs of a folder (what the measurement of pick-up starts)
    Work { folder: PathBuf, redis: String, prefix: String },
}

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = match &options.role {
        Some(Role::Work { folder, redis, prefix }) => {
            let (url, prefix) = (Secret::new(redis.clone()), prefix.clone());
            let redis = RedisSettings { url, prefix, ..RedisSettings::default() };
            in_runtime(pickup::work(pickup::settings(folder, Some(redis)))).map(|()| true)
        }
        None => in_runtime(measure(&options)),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Nothing is left to tell if standard error is closed.
            let _ = writeln!(std::io::stderr(), "job_figures: {error}");
            ExitCode::FAILURE
        }
    }
}

fn in_runtime<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

/// Whether every figure keeps its bound.
async fn measure(options: &Options) -> Result<bool, Failure> {
    let folder = tempfile::tempdir()?;
    let mut figures = processed(options, folder.path()).await?;
    figures.push(enqueued(options, folder.path()).await?);
    figures.extend(picked_up(options, folder.path()).await?);
    figures.extend(through_redis(options, folder.path()).await?);
    figures.push(deep(options, folder.path())?);
    println!();
    figures.iter().for_each(|figure| println!("{figure}"));
    Ok(figures.iter().all(Figure::passes))
}

/// A new folder, so that no measurement finds what another one left.
fn fresh(parent: &Path, name: &str) -> Result<PathBuf, Failure> {
    let folder = parent.join(name);
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

async fn processed(options: &Options, folder: &Path) -> Result<Vec<Figure>, Failure> {
    let jobs = options.jobs as usize;
    let mut ratios = [Vec::new(), Vec::new()];
    for round in 1..=options.rounds {
        let name = |what: &str| format!("{what}-{round}");
        let bare = throughput::bare(&fresh(folder, &name("bare"))?, SLOTS, jobs)?;
        let one_by_one = throughput::bare(&fresh(folder, &name("single"))?, 1, jobs / 20)?;
        let mut line = format!("round {round}: bare loop {bare:.0} jobs/s, one at a time {one_by_one:.0}");
        for (consumers, ratios) in [1, MANY].into_iter().zip(&mut ratios) {
            let site = Site::open(&fresh(folder, &name(&format!("engine-{consumers}")))?)?;
            let ours = throughput::engine(&site, consumers, jobs).await?;
            ratios.push(ours / bare);
            line = format!("{line}; {consumers} consumers {ours:.0} ({:.2})", ours / bare);
        }
        println!("{line}");
    }
    Ok([1, MANY]
        .into_iter()
        .zip(ratios)
        .map(|(consumers, ratios)| Figure {
            name: format!("no-op jobs/s, {consumers} consumers, beside the bare loop of {SLOTS} a transaction"),
            value: median(ratios),
            bound: Bound::AtLeast(0.4),
            unit: "of bare",
        })
        .collect())
}

async fn enqueued(options: &Options, folder: &Path) -> Result<Figure, Failure> {
    let jobs = options.jobs as usize;
    let mut ratios = Vec::new();
    for round in 1..=options.rounds {
        let bare = throughput::bare_enqueue(&fresh(folder, &format!("commits-{round}"))?, jobs / 20)?;
        let site = Site::open(&fresh(folder, &format!("callers-{round}"))?)?;
        let ours = throughput::enqueue(&site, CALLERS, jobs).await?;
        println!("round {round}: {CALLERS} callers enqueue {ours:.0}/s, one commit each {bare:.0}/s");
        ratios.push(ours / bare);
    }
    let name = format!("enqueues/s of {CALLERS} callers beside one commit each");
    Ok(Figure { name, value: median(ratios), bound: Bound::AtLeast(10.0), unit: "times" })
}

async fn picked_up(options: &Options, folder: &Path) -> Result<Vec<Figure>, Failure> {
    let picks = options.picks as usize;
    let (waits, commits) = pickup::in_process(&fresh(folder, "pickup")?, picks).await?;
    let commit = commits.quantile(0.5);
    println!(
        "pick-up in process: p50 {:.2} ms, p99 {:.2} ms; one commit p50 {commit:.2} ms, p99 {:.2} ms",
        waits.quantile(0.5),
        waits.quantile(0.99),
        commits.quantile(0.99)
    );
    let pair = pickup::across_processes(pickup::settings(&fresh(folder, "pair")?, None), picks).await?;
    println!(
        "pick-up by another process: p50 {:.2} ms, p99 {:.2} ms",
        pair.waits.quantile(0.5),
        pair.waits.quantile(0.99)
    );
    Ok(vec![
        Figure {
            name: "pick-up in process, p50, beside 1.5 commits + 0.2 ms".to_owned(),
            value: waits.quantile(0.5),
            bound: Bound::AtMost(1.5 * commit + 0.2),
            unit: "ms",
        },
        Figure {
            name: "pick-up by another process over SQLite, p99".to_owned(),
            value: pair.waits.quantile(0.99),
            bound: Bound::AtMost(60.0),
            unit: "ms",
        },
        Figure {
            name: "processor of that process while idle".to_owned(),
            value: pair.idle_share * 100.0,
            bound: Bound::Below(0.5),
            unit: "%",
        },
    ])
}

/// With hints through a Redis that, like the database, answers a write once it is on disk.
async fn through_redis(options: &Options, folder: &Path) -> Result<Vec<Figure>, Failure> {
    let Some(redis) = TestRedis::start_durable() else { return Ok(Vec::new()) };
    let settings = pickup::settings(&fresh(folder, "redis-pair")?, Some(redis.settings()));
    let waits = pickup::across_processes(settings, options.picks as usize).await?.waits;
    println!(
        "pick-up by another process, Redis: p50 {:.2} ms, p99 {:.2} ms",
        waits.quantile(0.5),
        waits.quantile(0.99)
    );
    let mut figures = vec![Figure {
        name: "pick-up by another process over Redis, p99".to_owned(),
        value: waits.quantile(0.99),
        bound: Bound::AtMost(5.0),
        unit: "ms",
    }];
    let jobs = options.jobs as usize;
    for consumers in [1, MANY] {
        let mut ratios = Vec::new();
        for round in 1..=options.rounds {
            let twin = match bullmq::rate(&folder.join("bullmq"), redis.port(), jobs / 4, SLOTS, consumers)? {
                Ok(rate) => rate,
                Err(reason) => {
                    println!("left out: BullMQ, for {reason}");
                    return Ok(figures);
                }
            };
            let dispatcher = Arc::new(RedisDispatcher::start(&TestRedis::server(&redis.settings())));
            let site = Site::open_with(&fresh(folder, &format!("redis-{consumers}-{round}"))?, dispatcher.clone())?;
            let ours = throughput::engine(&site, consumers, jobs).await?;
            dispatcher.stop().await;
            let ratio = ours / twin;
            println!(
                "round {round}: {consumers} consumers: Redis dispatch {ours:.0} jobs/s, BullMQ {twin:.0} ({ratio:.2})"
            );
            ratios.push(ratio);
        }
        let name = format!("no-op jobs/s with Redis dispatch, {consumers} consumers, beside as many of BullMQ");
        figures.push(Figure { name, value: median(ratios), bound: Bound::AtLeast(1.5), unit: "of BullMQ" });
    }
    Ok(figures)
}

fn deep(options: &Options, folder: &Path) -> Result<Figure, Failure> {
    let mut shallow = Depth::fill(&folder.join("shallow"), 5_000)?;
    let mut deep = Depth::fill(&folder.join("deep"), options.deep as usize)?;
    let mut ratios = Vec::new();
    // The first round warms both and is not counted.
    for round in 0..=options.rounds {
        let (few, many) = (shallow.claims(TURNS)?, deep.claims(TURNS)?);
        if round > 0 {
            println!("round {round}: a claim takes {many:.2?} before {} jobs, {few:.2?} before few", options.deep);
            ratios.push(many.as_secs_f64() / few.as_secs_f64());
        }
    }
    let name = format!("a claim before {} jobs beside one before 5000", options.deep);
    Ok(Figure { name, value: median(ratios), bound: Bound::AtMost(1.5), unit: "times" })
}
