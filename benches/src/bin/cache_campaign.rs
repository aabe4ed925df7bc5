//! The caches as a fleet uses them: a stampede, a load by Zipf's law, and a Redis in trouble.
//!
//! Each command prints what it found beside its bounds and ends with status 1 if one is broken.
//! `docs/cache.md` says what is done and what came of it.

use std::io::Write;
use std::process::ExitCode;

use benches::Failure;
use benches::campaign::faults::{self, FaultOptions};
use benches::campaign::node::{self, NodeOptions};
use benches::campaign::stampede::{self, StampedeOptions};
use benches::campaign::zipf::{self, ZipfOptions};
use clap::{Parser, Subcommand};

/// Campaigns against the caches
#[derive(Debug, Parser)]
struct Options {
    #[command(subcommand)]
    campaign: Campaign,
}

#[derive(Debug, Subcommand)]
enum Campaign {
    /// Ten thousand readers of one cold key in eight processes
    Stampede(StampedeOptions),
    /// Reads by Zipf's law, beside one perfect cache
    Zipf(ZipfOptions),
    /// A real server while its Redis is in trouble
    Faults(FaultOptions),
    /// One process of a fleet
    #[command(hide = true)]
    Node(NodeOptions),
}

fn main() -> ExitCode {
    match run(Options::parse().campaign) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Nothing is left to tell if standard error is closed.
            let _ = writeln!(std::io::stderr(), "cache_campaign: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(campaign: Campaign) -> Result<bool, Failure> {
    // Redis and the servers end with the thread that starts them, which is this one.
    let coordinator = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    match campaign {
        Campaign::Stampede(options) => coordinator()?.block_on(stampede::run(options)),
        Campaign::Zipf(options) => coordinator()?.block_on(zipf::run(options)),
        Campaign::Faults(options) => faults::run(&options),
        Campaign::Node(options) => {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            runtime.block_on(node::run(options)).map(|()| true)
        }
    }
}
