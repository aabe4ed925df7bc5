//! The `nemesis-node` program.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use nemesis::node::Node;

fn main() -> ExitCode {
    #[cfg(feature = "failpoints")]
    let _armed = vidcore::failpoints::arm();
    run()
}

#[tokio::main]
async fn run() -> ExitCode {
    let outcome = Node::parse().run().await;
    vidserver::logging::flush();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to tell if standard error is closed.
            let _ = writeln!(std::io::stderr(), "nemesis-node: {error}");
            ExitCode::FAILURE
        }
    }
}
