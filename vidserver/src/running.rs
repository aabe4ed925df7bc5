//! A platform being served: both listeners, the figures' upkeep, and an orderly end.

use std::net::SocketAddr;

use tokio::task::{JoinHandle, JoinSet};
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

/// The API and, if enabled, `/metrics`, until their [`Stop`] is asked to stop.
#[derive(Debug)]
pub struct RunningServer {
    /// Where the API listens.
    pub api: SocketAddr,
    /// Where `/metrics` listens, if it does.
    pub metrics: Option<SocketAddr>,
    platform: Platform,
    servers: JoinSet<Drained>,
    upkeep: JoinHandle<()>,
}

impl RunningServer {
    /// Binds the listeners and serves `platform` on them.
    ///
    /// # Errors
    /// [`StartError`]; nothing listens then.
    pub async fn start(config: &Config, platform: Platform, stop: Stop) -> Result<Self, StartError> {
        let recorder = metrics::install().map_err(|error| StartError::Metrics(error.to_string()))?;
        let app = crate::app(platform.clone(), config.http.clone());
        let server = bind("api", config.server.listen, &config.server, app.router).await?;
        let api = server.local_addr();
        let mut servers = JoinSet::new();
        let mut metrics_address = None;
        if config.server.metrics_enabled {
            let router = metrics_router(recorder.clone());
            let figures = bind("metrics", config.server.metrics_listen, &config.server, router).await?;
            metrics_address = Some(figures.local_addr());
            servers.spawn(figures.run(stop.clone()));
        }
        servers.spawn(server.run(stop));
        let upkeep = metrics::spawn_upkeep(recorder);
        Ok(Self { api, metrics: metrics_address, platform, servers, upkeep })
    }

    /// Waits until the listeners have drained, then stops the platform's worker.
    pub async fn finished(mut self) {
        while let Some(drained) = self.servers.join_next().await {
            match drained {
                Ok(Drained::Cut(open)) => tracing::warn!(open, "connections were cut at shutdown"),
                Ok(_) => {}
                Err(error) => tracing::error!(%error, "a listener ended badly"),
            }
        }
        self.platform.shutdown().await;
        self.upkeep.abort();
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
