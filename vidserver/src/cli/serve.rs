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
    tracing::info!(transcoder = platform.transcoder(), "videos are processed by {}", platform.transcoder());
    let server = RunningServer::start(&config, platform, stop).await?;
    server.finished().await;
    tracing::info!("stopped");
    Ok(())
}
