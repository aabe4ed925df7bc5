//! A platform being served: both listeners, the figures' upkeep, and an orderly end.

use std::net::SocketAddr;

use tokio::task::JoinHandle;
use vidcore::Platform;

use crate::config::{Config, ServerSettings};
use crate::metrics;
use crate::routes::ops::metrics_router;
use crate::server::{Drained, Server, Stop};

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener cannot be had.
    #[error("cannot listen on {address} for {what}: {source}")]
    Listen {
        /// `api` or `metrics`.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// The system's own words.
        source: std::io::Error,
    },
    /// The figures cannot be collected.
    #[error("cannot collect metrics: {0}")]
    Metrics(String),
}

/// `/metrics` on a listener of its own, until its [`Stop`] is asked to stop.
#[derive(Debug)]
pub struct RunningMetrics {
    /// Where it listens.
    pub address: SocketAddr,
    serving: JoinHandle<Drained>,
    upkeep: JoinHandle<()>,
}

impl RunningMetrics {
    /// Collects this process's figures and shows them on `address`.
    ///
    /// # Errors
    /// [`StartError`]; nothing listens then.
    pub async fn start(address: SocketAddr, settings: &ServerSettings, stop: Stop) -> Result<Self, StartError> {
        let recorder = metrics::install().map_err(|error| StartError::Metrics(error.to_string()))?;
        let server = bind("metrics", address, settings, metrics_router(recorder.clone())).await?;
        let address = server.local_addr();
        Ok(Self { address, serving: tokio::spawn(server.run(stop)), upkeep: metrics::spawn_upkeep(recorder) })
    }

    /// Waits until the listener has drained.
    pub async fn finished(self) {
        report(self.serving.await);
        self.upkeep.abort();
    }
}

/// The API and, if enabled, `/metrics`, until their [`Stop`] is asked to stop.
#[derive(Debug)]
pub struct RunningServer {
    /// Where the API listens.
    pub api: SocketAddr,
    /// Where `/metrics` listens, if it does.
    pub metrics: Option<SocketAddr>,
    platform: Platform,
    serving: JoinHandle<Drained>,
    figures: Option<RunningMetrics>,
}

impl RunningServer {
    /// Binds the listeners and serves `platform` on them.
    ///
    /// # Errors
    /// [`StartError`]; nothing listens then.
    pub async fn start(config: &Config, platform: Platform, stop: Stop) -> Result<Self, StartError> {
        let app = crate::app(platform.clone(), config.http.clone());
        let server = bind("api", config.server.listen, &config.server, app.router).await?;
        let figures = match config.server.metrics_enabled {
            true => Some(RunningMetrics::start(config.server.metrics_listen, &config.server, stop.clone()).await?),
            false => None,
        };
        let (api, metrics) = (server.local_addr(), figures.as_ref().map(|figures| figures.address));
        Ok(Self { api, metrics, platform, serving: tokio::spawn(server.run(stop)), figures })
    }

    /// Waits until the listeners have drained, then stops the platform's worker.
    pub async fn finished(self) {
        report(self.serving.await);
        self.platform.shutdown().await;
        if let Some(figures) = self.figures {
            figures.finished().await;
        }
    }
}

fn report(drained: Result<Drained, tokio::task::JoinError>) {
    match drained {
        Ok(Drained::Cut(open)) => tracing::warn!(open, "connections were cut at shutdown"),
        Ok(Drained::Clean) => {}
        Err(error) => tracing::error!(%error, "a listener ended badly"),
    }
}

async fn bind(
    what: &'static str,
    address: SocketAddr,
    settings: &ServerSettings,
    router: axum::Router,
) -> Result<Server, StartError> {
    let server = Server::bind(address, settings.clone(), router).await.map_err(|source| StartError::Listen {
        what,
        address,
        source,
    })?;
    tracing::info!(what, address = %server.local_addr(), "listening");
    Ok(server)
}
