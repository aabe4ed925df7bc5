//! `vidserver serve`: the API on one listener, figures on another, until told to stop.

use vidcore::Platform;

use super::CommandError;
use crate::config::Config;
use crate::logging;
use crate::running::RunningServer;
use crate::server::Stop;

pub(super) async fn run(config: Config) -> Result<(), CommandError> {
    logging::init(&config.log)?;
    let stop = Stop::new();
    stop.ask_on_signals()?;
    let platform = Platform::open(config.platform.clone()).await?;
    let server = RunningServer::start(&config, platform.clone(), stop.clone()).await?;
    tokio::select! {
        (transcoder, reason) = platform.transcoder() => tracing::info!(transcoder, reason, "videos are processed"),
        () = stop.drain_asked() => {}
    }
    server.finished().await;
    tracing::info!("stopped");
    Ok(())
}
