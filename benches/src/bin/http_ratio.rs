//! Requests per second of the whole `vidserver` beside bare hyper with the same body, in one run.
//!
//! Both are processes of their own and are loaded in turn, round by round, by the same client, so that
//! a machine that changes its speed does so to both. `vidserver` runs as it would in use: default
//! settings, its JSON log written to a file, every layer and every limit in force; only the numbers of
//! the limits are raised so that none of them refuses the load.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use benches::child::ServerProcess;
use benches::client::Client;
use benches::report::{Bound, Figure, median};
use benches::{Failure, bare, catalog, child, load};
use clap::{Parser, Subcommand};

const POPULAR: &str = "/api/v1/videos/popular";

/// The share of bare hyper's requests per second that the whole stack is to reach.
const TARGET: f64 = 0.5;

/// Videos in the catalog; the list holds the 20 with the most views.
const VIDEOS: usize = 2000;

/// Requests per second of the whole server beside bare hyper
#[derive(Debug, Parser)]
struct Options {
    #[command(subcommand)]
    role: Option<Role>,
    /// Keep-alive connections
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: u16,
    /// Rounds of each server
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// Length of a round in seconds
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// The vidserver program; by default the one that was built beside this one
    #[arg(long)]
    server: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Serve the bytes of a file with hyper alone (what the comparison starts)
    Bare { address: SocketAddr, body: PathBuf },
}

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = match &options.role {
        Some(Role::Bare { address, body }) => serve_bare(*address, body).map(|()| true),
        None => compare(&options),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Nothing is left to tell if standard error is closed.
            let _ = writeln!(std::io::stderr(), "http_ratio: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve_bare(address: SocketAddr, body: &Path) -> Result<(), Failure> {
    let body = std::fs::read(body)?.into();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(address).await?;
        Ok(bare::serve(listener, body).await?)
    })
}

/// Whether the ratio keeps its bound.
fn compare(options: &Options) -> Result<bool, Failure> {
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
    let client = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    client.block_on(run_rounds(options, folder.path(), &data))
}

async fn run_rounds(options: &Options, folder: &Path, data: &Path) -> Result<bool, Failure> {
    let config = folder.join("server.toml");
    std::fs::write(&config, GENEROUS)?;
    let program = options.server.clone().map_or_else(child::vidserver_beside, Ok)?;
    let ours = ServerProcess::vidserver(&program, data, Some(&config), &folder.join("server.log")).await?;
    let (_, body) = Client::connect(ours.address).await?.fetch(POPULAR).await?;
    let body_file = folder.join("body.json");
    std::fs::write(&body_file, &body)?;
    let twin = ServerProcess::bare(&body_file, &folder.join("bare.log")).await?;
    println!("body {} bytes, {} connections, {} s a round", body.len(), options.connections, options.seconds);
    let mut ratios = Vec::new();
    let mut costs = (Vec::new(), Vec::new());
    // The first round of each warms it and is not counted.
    for number in 0..=options.rounds {
        let (bare_rate, bare_cost) = measure(&twin, options).await?;
        let (our_rate, our_cost) = measure(&ours, options).await?;
        if number == 0 {
            continue;
        }
        ratios.push(our_rate / bare_rate);
        costs.0.push(our_cost);
        costs.1.push(bare_cost);
        println!(
            "round {number}: vidserver {our_rate:.0}/s ({our_cost:.1} us of processor each), \
             bare hyper {bare_rate:.0}/s ({bare_cost:.1} us), ratio {:.3}",
            our_rate / bare_rate
        );
    }
    let (our_cost, bare_cost) = (median(costs.0), median(costs.1));
    println!("processor time of a request: vidserver {our_cost:.1} us, bare hyper {bare_cost:.1} us");
    let name = "cached popular list, requests/s beside bare hyper".to_owned();
    let figure = Figure { name, value: median(ratios), bound: Bound::AtLeast(TARGET), unit: "of bare" };
    println!("{figure}");
    Ok(figure.passes())
}

/// Requests per second, and microseconds of the server's processor time for each.
async fn measure(server: &ServerProcess, options: &Options) -> Result<(f64, f64), Failure> {
    let before = server.processor_time()?;
    let length = Duration::from_secs(options.seconds);
    let round = load::round(server.address, POPULAR, options.connections.into(), length).await?;
    let spent = server.processor_time()?.saturating_sub(before);
    Ok((round.per_second(), spent.as_secs_f64() * 1e6 / round.requests.max(1) as f64))
}

/// The limits of the read class are checked on every request and never reached.
const GENEROUS: &str = r#"
[rate_limits.policies."read.address"]
limit = 4000000000
window_s = 3600
burst = 100000000
"#;
