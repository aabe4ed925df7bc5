//! What a costly route still does at three times its capacity, and whether health answers meanwhile.
//!
//! `vidserver` runs as a process of its own with default settings, but for rate limits, which are lifted:
//! they would keep the load away. Each round measures the peak with a few callers who wait for their
//! answers, then offers three times as much on a schedule that waits for nobody. The client has a bounded
//! number of connections and one thread; its processor time is told apart from the server's.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use benches::child::{ServerProcess, processor_time_of};
use benches::client::Client;
use benches::report::{Bound, Figure, median};
use benches::{Failure, catalog, child};
use clap::Parser;
use serde_json::json;
use tokio::task::JoinSet;

/// The share of the peak that is to be left.
const TARGET: f64 = 0.75;

/// How much more is offered than the peak.
const OVERLOAD: f64 = 3.0;

/// Callers who wait for their answers: more than the machine has cores, fewer than may wait.
const PEAK_CALLERS: usize = 8;

/// Connections of the load. More than can be under way: those that may run and wait.
const CONNECTIONS: usize = 192;

/// Videos in the catalog.
const VIDEOS: usize = 20_000;

/// Items of a page; another number makes another search.
const LIMITS: [u8; 4] = [18, 19, 20, 21];

/// The slowest answer of `/healthz` that is still one, in milliseconds.
const HEALTH_BOUND_MS: f64 = 1000.0;

/// Goodput of costly routes at three times their capacity
#[derive(Debug, Parser)]
struct Options {
    /// Rounds of each route
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// Length of each half of a round in seconds
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// The vidserver program; by default the one that was built beside this one
    #[arg(long)]
    server: Option<PathBuf>,
}

/// A costly route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    SignIn,
    Search,
}

/// What came of a load.
#[derive(Debug, Default)]
struct Outcome {
    done: AtomicU64,
    turned_away: AtomicU64,
    failed: AtomicU64,
}

/// What health said beside it.
#[derive(Debug, Default, Clone, Copy)]
struct Health {
    asked: u64,
    answered: u64,
    slowest: Duration,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Nothing is left to tell if standard error is closed.
            let _ = writeln!(std::io::stderr(), "overload: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<bool, Failure> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    // The catalog is made by another runtime and closed before the server opens it.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let seeded = catalog::seed(&data, VIDEOS).await?;
        seeded.platform.shutdown().await;
        Ok::<_, Failure>(())
    })?;
    drop(runtime);
    let config = folder.path().join("server.toml");
    std::fs::write(&config, UNLIMITED)?;
    let client = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    client.block_on(async {
        let program = options.server.clone().map_or_else(child::vidserver_beside, Ok)?;
        let server =
            ServerProcess::vidserver(&program, &data, Some(&config), &folder.path().join("server.log")).await?;
        let sign_in = measure(&server, Route::SignIn, options).await?;
        let search = measure(&server, Route::Search, options).await?;
        Ok(sign_in && search)
    })
}

/// Whether the route keeps its bounds.
async fn measure(server: &ServerProcess, route: Route, options: &Options) -> Result<bool, Failure> {
    let length = Duration::from_secs(options.seconds);
    let (mut ratios, mut slowest) = (Vec::new(), Duration::ZERO);
    // The first round warms the server and is not counted.
    for number in 0..=options.rounds {
        let peak = peak(server.address, route, length).await?;
        let spent = (server.processor_time()?, processor_time_of(std::process::id())?);
        let begun = Instant::now();
        let (outcome, health) = overload(server.address, route, peak * OVERLOAD, length).await?;
        let elapsed = begun.elapsed().as_secs_f64();
        let share = |now: Duration, before: Duration| now.saturating_sub(before).as_secs_f64() / elapsed;
        let theirs = share(server.processor_time()?, spent.0);
        let ours = share(processor_time_of(std::process::id())?, spent.1);
        let per_second = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64 / elapsed;
        let (done, turned_away) = (per_second(&outcome.done), per_second(&outcome.turned_away));
        if outcome.failed.load(Ordering::Relaxed) > 0 || health.answered < health.asked {
            return Err(format!("{route:?}: {outcome:?}, {health:?}").into());
        }
        println!(
            "{route:?} round {number}: peak {peak:.0}/s; offered {:.0}/s: {done:.0}/s done, {turned_away:.0}/s turned \
             away, ratio {:.2}; processors: server {theirs:.2}, client {ours:.2}; health {} times, slowest {:.0} ms",
            done + turned_away,
            done / peak,
            health.answered,
            health.slowest.as_secs_f64() * 1e3,
        );
        if number > 0 {
            ratios.push(done / peak);
            slowest = slowest.max(health.slowest);
        }
    }
    let goodput = Figure {
        name: format!("{route:?}, goodput at {OVERLOAD}x capacity"),
        value: median(ratios),
        bound: Bound::AtLeast(TARGET),
        unit: "of peak",
    };
    let health = Figure {
        name: format!("{route:?}, slowest answer of /healthz meanwhile"),
        value: slowest.as_secs_f64() * 1e3,
        bound: Bound::Below(HEALTH_BOUND_MS),
        unit: "ms",
    };
    println!("{goodput}\n{health}");
    Ok(goodput.passes() && health.passes())
}

/// Calls per second of callers who wait for their answers.
async fn peak(address: SocketAddr, route: Route, length: Duration) -> Result<f64, Failure> {
    let begun = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..PEAK_CALLERS {
        callers.spawn(async move {
            let mut client = Client::connect(address).await?;
            let mut done = 0;
            while begun.elapsed() < length {
                match route.call(&mut client).await? {
                    200 => done += 1,
                    status => return Err(format!("an answer with status {status} below the peak").into()),
                }
            }
            Ok::<u64, Failure>(done)
        });
    }
    let mut done = 0;
    while let Some(counted) = callers.join_next().await {
        done += counted??;
    }
    Ok(done as f64 / begun.elapsed().as_secs_f64())
}

/// Offers `rate` calls per second, whatever becomes of them, and asks for health ten times a second.
async fn overload(
    address: SocketAddr,
    route: Route,
    rate: f64,
    length: Duration,
) -> Result<(Arc<Outcome>, Health), Failure> {
    let (outcome, tickets) = (Arc::new(Outcome::default()), Arc::new(AtomicU64::new(0)));
    let mut clients = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        clients.push(Client::connect(address).await?);
    }
    let begun = Instant::now();
    let mut callers = JoinSet::new();
    for mut client in clients {
        let (outcome, tickets) = (Arc::clone(&outcome), Arc::clone(&tickets));
        callers.spawn(async move {
            loop {
                let due = Duration::from_secs_f64(tickets.fetch_add(1, Ordering::Relaxed) as f64 / rate);
                if due >= length || begun.elapsed() >= length {
                    return Ok::<(), Failure>(());
                }
                tokio::time::sleep_until((begun + due).into()).await;
                let counted = match route.call(&mut client).await? {
                    200 => &outcome.done,
                    503 => &outcome.turned_away,
                    _ => &outcome.failed,
                };
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let health = watch_health(address, begun + length).await?;
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    Ok((outcome, health))
}

async fn watch_health(address: SocketAddr, until: Instant) -> Result<Health, Failure> {
    let (mut health, mut client) = (Health::default(), Client::connect(address).await?);
    let request = Client::get_head("/healthz");
    while Instant::now() < until {
        let asked = Instant::now();
        health.asked += 1;
        if client.exchange(&request).await?.status == 200 {
            health.answered += 1;
        }
        health.slowest = health.slowest.max(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(health)
}

impl Route {
    /// The status of one call.
    async fn call(self, client: &mut Client) -> Result<u16, Failure> {
        match self {
            Self::SignIn => {
                let body = json!({"email": catalog::EMAIL, "password": catalog::PASSWORD});
                Ok(client.json("POST", "/api/v1/auth/login", None, Some(&body)).await?.0.status)
            }
            Self::Search => Ok(client.exchange(&Client::get_head(&next_search())).await?.status),
        }
    }
}

/// A search that nobody has made for a while: no cache can answer it. All cost about the same, and follow
/// one another without an order.
fn next_search() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let words = catalog::WORDS.len();
    let searches = words * words * LIMITS.len();
    // A prime that does not divide their number goes through all of them.
    let number = NEXT.fetch_add(1, Ordering::Relaxed) as usize * 7919 % searches;
    let (word, begun) = (catalog::WORDS[number % words], catalog::WORDS[number / words % words]);
    format!("/api/v1/search?q={word}%20{}&limit={}", &begun[..3], LIMITS[number / words / words])
}

/// Limits would keep the load away; what is to be seen is what stands behind them.
const UNLIMITED: &str = r#"
[rate_limits.policies]
"login.address" = "unlimited"
"login.account" = "unlimited"
"login.familiar" = "unlimited"
"search.address" = "unlimited"
"#;
