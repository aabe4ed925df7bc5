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
    #[error("cannot listen on {address} for {what}")]
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
    stop: Stop,
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
        let serving = tokio::spawn(server.run(stop.clone()));
        Ok(Self { api, metrics, platform, stop, serving, figures })
    }

    /// Waits until the listeners have drained, then stops the platform's worker. Asked to stop a second
    /// time, it waits for neither.
    pub async fn finished(self) {
        report(self.serving.await);
        tokio::select! {
            () = self.platform.shutdown() => {}
            () = self.stop.abort_asked() => tracing::warn!("ended at once: leases of running jobs will run out"),
        }
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

#[cfg(test)]
mod tests {
    use std::future::{Future, pending};
    use std::pin::Pin;
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::sync::Notify;
    use vidcore::id::JobId;
    use vidcore::jobs::worker::{JobContext, JobFailure, JobHandler};
    use vidcore::jobs::{NewJob, QueueName};
    use vidcore::store::Causes;

    use super::*;
    use crate::config::Sources;

    /// Says that it runs, and hears nothing.
    #[derive(Debug)]
    struct Deaf(Arc<Notify>);

    impl JobHandler for Deaf {
        fn run<'a, 'b>(&'a self, _: JobContext) -> Pin<Box<dyn Future<Output = Result<Causes, JobFailure>> + Send + 'b>>
        where
            'a: 'b,
            Self: 'b,
        {
            self.0.notify_one();
            Box::pin(pending())
        }
    }

    fn job(platform: &Platform) -> NewJob {
        let now = platform.now();
        NewJob {
            id: JobId::new(now, &vidcore::entropy::SystemEntropy),
            queue: QueueName::new("test"),
            kind: "deaf".to_owned(),
            payload: serde_json::Value::Null,
            priority: 0,
            run_at: now,
            max_attempts: 1,
            unique_key: None,
            owner: None,
            video: None,
            on_dead: None,
            group: None,
            now,
        }
    }

    #[tokio::test]
    async fn a_second_stop_does_not_wait_for_running_jobs() {
        let folder = tempfile::tempdir().expect("there is a temporary folder");
        let mut config = Config::load(&Sources::default()).expect("the defaults are valid");
        config.server.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        config.server.metrics_enabled = false;
        folder.path().clone_into(&mut config.platform.data_dir);
        config.platform.worker.grace_ms = 3_600_000;
        config.platform.media.transcoder = vidcore::platform::settings::TranscoderChoice::Simulated;
        let running = Arc::new(Notify::new());
        let builder = Platform::builder(config.platform.clone());
        let platform = builder.handler("test", "deaf", Arc::new(Deaf(running.clone()))).open().await.expect("it opens");
        platform.jobs().enqueue(job(&platform)).await.expect("it is enqueued");
        running.notified().await;

        let stop = Stop::new();
        let server = RunningServer::start(&config, platform, stop.clone()).await.expect("it listens");
        stop.ask();
        stop.ask();
        tokio::time::timeout(Duration::from_secs(30), server.finished()).await.expect("it does not wait an hour");
    }
}
