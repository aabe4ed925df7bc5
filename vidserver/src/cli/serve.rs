//! `vidserver serve`: the API on one listener, figures on another, until told to stop.

use tokio::task::JoinSet;

use super::CommandError;
use crate::app::{Edge, PublicUrl, assemble};
use crate::config::{Config, ServerSettings};
use crate::routes::ops::metrics_router;
use crate::server::{Drained, Server, Stop};
use crate::{logging, metrics};

pub(super) async fn run(config: Config) -> Result<(), CommandError> {
    logging::init(&config.log)?;
    let recorder = metrics::install()?;
    let stop = Stop::new();
    stop.ask_on_signals()?;

    let public_url = PublicUrl::parse(&config.platform.public_url).ok_or("public_url is not a URL")?;
    let app = assemble(crate::stacks(), (), &Edge::new(config.http.clone(), public_url));
    let mut servers = JoinSet::new();
    let api = bind("api", config.server.listen, &config.server, app.router).await?;
    servers.spawn(api.run(stop.clone()));
    if config.server.metrics_enabled {
        let router = metrics_router(recorder.clone());
        let metrics = bind("metrics", config.server.metrics_listen, &config.server, router).await?;
        servers.spawn(metrics.run(stop.clone()));
    }
    let upkeep = metrics::spawn_upkeep(recorder);
    while let Some(drained) = servers.join_next().await {
        if let Drained::Cut(open) = drained? {
            tracing::warn!(open, "connections were cut at shutdown");
        }
    }
    upkeep.abort();
    tracing::info!("stopped");
    Ok(())
}

async fn bind(
    what: &'static str,
    address: std::net::SocketAddr,
    settings: &ServerSettings,
    router: axum::Router,
) -> Result<Server, CommandError> {
    let server = Server::bind(address, settings.clone(), router)
        .await
        .map_err(|error| format!("cannot listen on {address} for {what}: {error}"))?;
    tracing::info!(what, address = %server.local_addr(), "listening");
    Ok(server)
}
