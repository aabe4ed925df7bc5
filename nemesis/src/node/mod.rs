//! A program under test that embeds the platform: the whole API with one route and one kind of job of
//! its own. Its jobs do something outside the platform, which the platform cannot take back.

mod handler;
mod route;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use vidcore::Platform;
use vidcore::store::sqlite::Migrations;
use vidserver::config::{Config, Sources};
use vidserver::server::{Server, Stop};

use crate::Failure;
use handler::LeaveMark;

pub use route::PATH;

/// Where its jobs wait, and what they are called.
pub const QUEUE: &str = "ledger";

/// The variable that tells a node where the ledger is.
pub const LEDGER: &str = "NEMESIS_LEDGER";

/// How long a node without a server waits for one that brings the database up to date.
const SCHEMA_PATIENCE: Duration = Duration::from_secs(60);

/// Takes the flags of `vidserver serve`, or those of `vidworker`.
#[derive(Debug, Parser)]
#[command(name = "nemesis-node", version)]
pub struct Node {
    #[command(subcommand)]
    command: Option<Command>,
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    #[arg(long, global = true)]
    data_dir: Option<PathBuf>,
    #[arg(long, env = LEDGER)]
    ledger: SocketAddr,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves the API; works only without it
    Serve(Serving),
}

#[derive(Debug, Clone, Copy, Args)]
struct Serving {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    no_worker: bool,
}

impl Node {
    /// Runs until it is told to stop.
    ///
    /// # Errors
    /// The configuration, the folder or the port cannot be used.
    pub async fn run(self) -> Result<(), Failure> {
        let sources = Sources::from_environment(self.config)
            .flag("data_dir", self.data_dir.as_ref().map(|folder| folder.display()));
        let mut config = Config::load(&sources)?;
        vidserver::logging::init(&config.log)?;
        let stop = Stop::new();
        stop.ask_on_signals()?;
        let serving = self.command.map(|Command::Serve(serving)| serving);
        config.platform.worker.enabled = serving.is_none_or(|serving| !serving.no_worker);
        let migrations = if serving.is_some() { Migrations::Apply } else { Migrations::Expect(SCHEMA_PATIENCE) };
        let platform = Platform::builder(config.platform.clone())
            .migrations(migrations)
            .handler(QUEUE, QUEUE, Arc::new(LeaveMark(self.ledger)))
            .open()
            .await?;
        if let Some(serving) = serving {
            let router = vidserver::app(platform.clone(), config.http.clone()).router.merge(route::router(&platform));
            let server = Server::bind(serving.listen, config.server.clone(), router).await?;
            tracing::info!(what = "api", address = %server.local_addr(), "listening");
            server.run(stop).await;
        } else {
            tracing::info!("working");
            stop.drain_asked().await;
        }
        platform.shutdown().await;
        Ok(())
    }
}
