//! The `vidserver` program.

use std::process::ExitCode;

use clap::Parser;
use vidserver::cli::Cli;

#[tokio::main]
async fn main() -> ExitCode {
    Cli::parse().run().await
}
