//! Background jobs in a process of their own: the same data folder, the same configuration file as
//! `vidserver`, no API.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use vidcore::Platform;
use vidcore::store::sqlite::Migrations;
use vidserver::config::{Config, Sources};
use vidserver::logging;
use vidserver::running::RunningMetrics;
use vidserver::server::Stop;

/// How long a worker waits for a server that brings the database up to date.
const SCHEMA_PATIENCE: Duration = Duration::from_secs(60);

/// Runs background jobs: checks uploads, makes renditions.
#[derive(Debug, Parser)]
#[command(name = "vidworker", version, about, long_about = None)]
pub struct Cli {
    /// TOML file with settings, the same as the server's
    #[arg(long, env = "VID_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of the database, keys, objects and staging [setting: data_dir]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Jobs run at once [setting: worker.concurrency]
    #[arg(long, value_name = "JOBS")]
    concurrency: Option<u16>,
    /// Address and port of /metrics; none by default, because the server's may be on the same machine
    #[arg(long, value_name = "ADDRESS")]
    metrics_listen: Option<SocketAddr>,
    /// A level, or directives such as `info,vidcore::jobs=debug` [setting: log.level]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// `json` or `text` [setting: log.format]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

/// What keeps a worker from running.
pub type WorkerError = Box<dyn std::error::Error + Send + Sync>;

impl Cli {
    /// Works until SIGTERM or SIGINT; then finishes running jobs within the grace time and gives the
    /// rest back. A second signal ends at once, and the jobs' leases run out.
    ///
    /// # Errors
    /// The configuration, the data folder or the metrics listener cannot be used.
    pub async fn run(self) -> Result<(), WorkerError> {
        let metrics_listen = self.metrics_listen;
        let mut config = Config::load(&self.sources())?;
        logging::init(&config.log)?;
        let stop = Stop::new();
        stop.ask_on_signals()?;
        config.platform.worker.enabled = true;
        let folder = config.platform.data_dir.display().to_string();
        tracing::info!(data_dir = folder, "opening the data folder; its database is made by a server");
        let opening = Platform::builder(config.platform.clone()).migrations(Migrations::Expect(SCHEMA_PATIENCE)).open();
        let platform = tokio::select! {
            opened = opening => opened?,
            () = stop.drain_asked() => return Ok(()),
        };
        let metrics = match metrics_listen {
            Some(address) => Some(RunningMetrics::start(address, &config.server, stop.clone()).await?),
            None => None,
        };
        tracing::info!(concurrency = config.platform.worker.concurrency, "working");
        tokio::select! {
            (transcoder, reason) = platform.transcoder() => tracing::info!(transcoder, reason, "videos are processed"),
            () = stop.drain_asked() => {}
        }
        stop.drain_asked().await;
        tokio::select! {
            () = platform.shutdown() => {}
            () = stop.abort_asked() => tracing::warn!("ended at once: leases of running jobs will run out"),
        }
        if let Some(metrics) = metrics {
            metrics.finished().await;
        }
        tracing::info!("stopped");
        Ok(())
    }

    fn sources(&self) -> Sources {
        Sources::from_environment(self.config.clone())
            .flag("data_dir", self.data_dir.as_ref().map(|folder| folder.display()))
            .flag("worker.concurrency", self.concurrency)
            .flag("log.level", self.log_level.as_ref())
            .flag("log.format", self.log_format.as_ref())
    }
}
