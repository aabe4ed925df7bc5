//! The `vidserver` program.

use std::process::ExitCode;

use clap::Parser;
use vidserver::cli::Cli;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    #[cfg(feature = "failpoints")]
    let _armed = vidcore::failpoints::arm();
    run()
}

#[tokio::main]
async fn run() -> ExitCode {
    Cli::parse().run().await
}
