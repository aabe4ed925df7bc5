//! The `vidworker` program.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use vidserver::logging::whole_story;
use vidworker::Cli;

fn main() -> ExitCode {
    #[cfg(feature = "failpoints")]
    let _armed = vidcore::failpoints::arm();
    run()
}

#[tokio::main]
async fn run() -> ExitCode {
    match Cli::parse().run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to tell if standard error is closed.
            let _ = writeln!(std::io::stderr(), "vidworker: {}", whole_story(&*error));
            ExitCode::FAILURE
        }
    }
}
