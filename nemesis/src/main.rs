//! The `nemesis` program.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use nemesis::options::Options;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return fail("signals cannot be heard");
    };
    // This future is polled on the main thread, which starts the children; dropping it ends them.
    tokio::select! {
        outcome = nemesis::campaign::run(&options) => match outcome {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => fail(&error.to_string()),
        },
        _ = interrupt.recv() => fail("interrupted"),
        _ = terminate.recv() => fail("terminated"),
    }
}

fn fail(why: &str) -> ExitCode {
    // Nothing is left to tell if standard error is closed.
    let _ = writeln!(std::io::stderr(), "nemesis: {why}");
    ExitCode::from(2)
}
