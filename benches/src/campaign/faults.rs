//! A real server under a steady load of reads while its Redis is frozen, killed, emptied, full, cut off and
//! refused.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::time::{Instant, sleep_until};
use vidcore::id::VideoId;
use vidcore::testkit::redis::TestRedis;

use crate::campaign::hits::Hits;
use crate::campaign::limited::{self, Attempt, BURST, LIMIT, WINDOW_S};
use crate::campaign::phases::{Phase, SCRIPT};
use crate::campaign::proxy::Proxy;
use crate::campaign::traffic::{self, Read};
use crate::campaign::{millis, plot, print, quantile};
use crate::child::{ServerProcess, vidserver_beside};
use crate::client::Client;
use crate::report::{Bound, Figure};
use crate::{Failure, catalog};

/// Public videos of the site.
const VIDEOS: usize = 400;

/// Seconds before anything is judged.
const WARM_UP_S: usize = 6;

/// A normal p99 counts as at least this many milliseconds: three times less is noise.
const FLOOR_MS: f64 = 5.0;

/// How many times the normal p99 is borne in trouble, from its second second on.
const SLOWER: f64 = 3.0;

/// How far from normal a hit ratio may be, and within how many seconds it is to be back.
const NEAR: f64 = 0.05;
const BACK_WITHIN_S: usize = 10;

/// What is tried
#[derive(Debug, Clone, Args)]
pub struct FaultOptions {
    /// Seconds of each phase
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(2..=120))]
    pub seconds: u16,
    /// Reads per second
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(10..=5000))]
    pub rate: u32,
    /// Two seconds of each phase and no plot
    #[arg(long)]
    pub short: bool,
    /// Where to put the plot
    #[arg(long)]
    pub plot: Option<PathBuf>,
    /// The vidserver program; by default the one that was built beside this one
    #[arg(long)]
    pub server: Option<PathBuf>,
}

/// What one second was like.
#[derive(Debug, Clone)]
pub struct Second {
    /// What was the matter.
    pub phase: Phase,
    /// The how manieth phase.
    pub number: usize,
    /// How long reads took that were due in it, in milliseconds.
    pub p99_ms: f64,
    /// The share of the caches' calls that cost the database nothing; `None` without any.
    pub hits: Option<f64>,
    took: Vec<Duration>,
    failed: usize,
    others: usize,
    admitted: usize,
    limited: usize,
}

/// Runs it and prints what came of it; whether all bounds were kept.
///
/// # Errors
/// Redis or the server is not there.
pub fn run(options: &FaultOptions) -> Result<bool, Failure> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    // The load has threads of its own: this one waits for Redis now and then.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let seeded = catalog::seed(&data, VIDEOS).await?;
        let videos = seeded.ids.clone();
        seeded.platform.shutdown().await;
        let seconds = observe(options, folder.path(), &data, &videos).await?;
        if let Some(plot) = options.plot.as_ref().filter(|_| !options.short) {
            std::fs::write(plot, plot::svg(&seconds.0[WARM_UP_S..]))?;
        }
        table(&seconds.0);
        Ok(print(&judge(&seconds.0, &seconds.1)))
    })
}

async fn observe(
    options: &FaultOptions,
    folder: &Path,
    data: &Path,
    videos: &[VideoId],
) -> Result<(Vec<Second>, Vec<Attempt>), Failure> {
    let mut redis = TestRedis::start().ok_or("there is no redis-server")?;
    let proxy = Proxy::start(redis.port()).await?;
    let config = folder.join("server.toml");
    std::fs::write(&config, settings(&proxy))?;
    let program = options.server.clone().map_or_else(vidserver_beside, Ok)?;
    let server = ServerProcess::vidserver(&program, data, Some(&config), &folder.join("server.log")).await?;
    let metrics = server.metrics.ok_or("a server without figures")?;
    let (token, user) = sign_in(&server).await?;

    let each = if options.short { 2 } else { usize::from(options.seconds) };
    let phases = std::iter::repeat_n((0, Phase::WarmUp), WARM_UP_S)
        .chain(SCRIPT.iter().enumerate().flat_map(|(at, phase)| std::iter::repeat_n((at + 1, *phase), each)));
    let phases: Vec<_> = phases.collect();
    let length = Duration::from_secs(phases.len() as u64);
    let rate = f64::from(options.rate);
    let requests: Arc<[_]> = traffic::requests(10_000, videos, &user).into();
    let begun = Instant::now() + Duration::from_millis(100);
    let reads = tokio::spawn(traffic::send(server.address, requests, rate, begun, length));
    let attempts = tokio::spawn(limited::attempt(server.address, token, begun, length));

    let (mut seconds, mut before, mut was) = (Vec::with_capacity(phases.len()), Hits::default(), (0, Phase::WarmUp));
    for (at, (number, phase)) in phases.into_iter().enumerate() {
        sleep_until(begun + Duration::from_secs(at as u64)).await;
        if number != was.0 {
            was.1.end(&redis, &proxy);
            phase.begin(&mut redis, &proxy);
            was = (number, phase);
        }
        sleep_until(begun + Duration::from_secs(at as u64 + 1) - Duration::from_millis(20)).await;
        let now = Hits::fetch(metrics).await?;
        let hits = now.ratio_since(std::mem::replace(&mut before, now));
        let (p99_ms, took) = (0.0, Vec::new());
        seconds.push(Second { phase, number, p99_ms, hits, took, failed: 0, others: 0, admitted: 0, limited: 0 });
    }
    let (reads, attempts) = (reads.await??, attempts.await??);
    fill(&mut seconds, &reads, &attempts);
    Ok((seconds, attempts))
}

/// Counts everything in the second in which it was due.
fn fill(seconds: &mut [Second], reads: &[Read], attempts: &[Attempt]) {
    for read in reads {
        if let Some(second) = seconds.get_mut(read.due.as_secs() as usize) {
            second.took.push(read.took);
            match read.status {
                200 => {}
                0 | 500.. => second.failed += 1,
                _ => second.others += 1,
            }
        }
    }
    for attempt in attempts {
        if let Some(second) = seconds.get_mut(attempt.sent.as_secs() as usize) {
            let counted = if attempt.is_admitted() { &mut second.admitted } else { &mut second.limited };
            *counted += 1;
        }
    }
    for second in seconds {
        second.p99_ms = millis(quantile(&mut second.took, 0.99));
    }
}

fn table(seconds: &[Second]) {
    println!(
        "{:>4} {:<14} {:>6} {:>4} {:>8} {:>8} {:>6} {:>8} {:>4}",
        "s", "phase", "reads", "5xx", "p50 ms", "p99 ms", "hits", "admitted", "429"
    );
    for (at, second) in seconds.iter().enumerate() {
        let (mut took, name) = (second.took.clone(), second.phase.name());
        println!(
            "{:>4} {name:<14} {:>6} {:>4} {:>8.2} {:>8.2} {:>6.3} {:>8} {:>4}",
            at as i64 - WARM_UP_S as i64,
            took.len(),
            second.failed,
            millis(quantile(&mut took, 0.5)),
            second.p99_ms,
            second.hits.unwrap_or(f64::NAN),
            second.admitted,
            second.limited,
        );
    }
}

fn judge(seconds: &[Second], attempts: &[Attempt]) -> Vec<Figure> {
    let judged = &seconds[WARM_UP_S..];
    let phases: Vec<&[Second]> = judged.chunk_by(|one, next| one.number == next.number).collect();
    let p99 = |seconds: &[Second]| {
        let mut took: Vec<_> = seconds.iter().flat_map(|second| second.took.iter().copied()).collect();
        millis(quantile(&mut took, 0.99))
    };
    let normal = p99(phases[0]);
    let hits: Vec<f64> = phases[0].iter().filter_map(|second| second.hits).collect();
    let usual = hits.iter().sum::<f64>() / hits.len().max(1) as f64;
    println!("normal: p99 {normal:.2} ms, hit ratio {usual:.3}");
    let figure = |name: String, value: f64, bound, unit| Figure { name, value, bound, unit };
    let mut figures = vec![
        figure(
            "reads answered with 5xx or not at all".to_owned(),
            sum(judged, |s| s.failed),
            Bound::AtMost(0.0),
            "reads",
        ),
        figure(
            "reads answered with anything else but 200".to_owned(),
            sum(judged, |s| s.others),
            Bound::AtMost(0.0),
            "reads",
        ),
    ];
    for phase in phases.iter().filter(|phase| phase[0].phase.is_trouble()) {
        let name = format!("{}: p99 from the second second on", phase[0].phase.name());
        figures.push(figure(name, p99(&phase[1..]), Bound::AtMost(SLOWER * normal.max(FLOOR_MS)), "ms"));
    }
    for pair in phases.windows(2).filter(|pair| pair[0][0].phase.is_trouble() || pair[1][0].phase.empties()) {
        let (cause, calm) = (pair[0][0].phase, pair[1]);
        let back = calm.iter().take(BACK_WITHIN_S).filter_map(|second| second.hits).fold(0.0, f64::max);
        let name = format!("{}, then {}: best hit ratio within {BACK_WITHIN_S} s", cause.name(), calm[0].phase.name());
        figures.push(figure(name, back, Bound::AtLeast(usual - NEAR), "of calls"));
    }
    let start_of = |number: usize| Duration::from_secs(seconds.iter().take_while(|s| s.number < number).count() as u64);
    let emptied: Vec<_> =
        phases.iter().filter(|phase| phase[0].phase.empties()).map(|phase| start_of(phase[0].number)).collect();
    // Redis is noticed again at the latest a second after its return.
    let troubled = |from: Duration, until: Duration| {
        let is_within = |at: usize| Duration::from_secs(at as u64 + 2) > from && Duration::from_secs(at as u64) < until;
        seconds.iter().enumerate().any(|(at, second)| second.phase.is_trouble() && is_within(at))
    };
    let name =
        format!("calls admitted above {LIMIT} in {WINDOW_S} s, a share of 25 % and a burst of {BURST} for each loss");
    let excess = limited::worst_excess(attempts, &emptied, troubled).unwrap_or(0);
    figures.push(figure(name, excess as f64, Bound::AtMost(0.0), "calls"));
    let refused = attempts.iter().filter(|attempt| attempt.status == 429).count();
    figures.push(figure(
        "calls refused to the limited client".to_owned(),
        refused as f64,
        Bound::AtLeast(1.0),
        "calls",
    ));
    let broken = attempts.iter().filter(|attempt| !matches!(attempt.status, 201 | 429)).count();
    figures.push(figure(
        "its calls answered with anything else".to_owned(),
        broken as f64,
        Bound::AtMost(0.0),
        "calls",
    ));
    figures
}

fn sum(seconds: &[Second], of: impl Fn(&Second) -> usize) -> f64 {
    seconds.iter().map(of).sum::<usize>() as f64
}

/// A token and the user's id.
async fn sign_in(server: &ServerProcess) -> Result<(String, String), Failure> {
    let mut client = Client::connect(server.address).await?;
    let body = json!({"email": catalog::EMAIL, "password": catalog::PASSWORD});
    let (_, signed_in) = client.json("POST", "/api/v1/auth/login", None, Some(&body)).await?;
    let token = signed_in["access_token"].as_str().ok_or("nobody was signed in")?.to_owned();
    let (_, user) = client.json("GET", "/api/v1/users/me", Some(&token), None).await?;
    Ok((token, user["id"].as_str().ok_or("a user without an id")?.to_owned()))
}

/// Redis through the proxy for caches and limits; one small limit, all others never met.
fn settings(proxy: &Proxy) -> String {
    let mut settings = format!(
        "[redis]\nurl = \"redis://{}\"\n[cache]\ntier = \"redis\"\n[worker]\nenabled = false\n\
         [rate_limits]\nback_end = \"redis\"\n\
         [rate_limits.policies.\"write.user\"]\nlimit = {LIMIT}\nwindow_s = {WINDOW_S}\nburst = {BURST}\n",
        proxy.address
    );
    for policy in ["read.address", "search.address", "write.address"] {
        settings.push_str(&format!(
            "[rate_limits.policies.\"{policy}\"]\nlimit = 2000000\nwindow_s = 3600\nburst = 1000000\n"
        ));
    }
    settings
}
