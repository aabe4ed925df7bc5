//! Load that is bounded in connections and in time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::Failure;
use crate::client::Client;

/// What a round of load found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Round {
    /// Requests answered with 200.
    pub requests: u64,
    /// How long the round took.
    pub elapsed: Duration,
}

impl Round {
    /// Requests answered per second.
    pub fn per_second(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64()
    }
}

/// Sends the same request over `connections` keep-alive connections for `length`, each waiting for one
/// answer before the next request. Runs on the current thread's runtime.
///
/// # Errors
/// A connection that fails; an answer that is not 200, so that no round counts refusals as work.
pub async fn round(address: SocketAddr, path: &str, connections: usize, length: Duration) -> Result<Round, Failure> {
    let mut clients = Vec::with_capacity(connections);
    for _ in 0..connections {
        clients.push(Client::connect(address).await?);
    }
    let request: std::sync::Arc<[u8]> = Client::get_head(path).into();
    let begun = Instant::now();
    let until = begun + length;
    let mut running = JoinSet::new();
    for mut client in clients {
        let request = request.clone();
        running.spawn(async move {
            let mut requests = 0;
            while Instant::now() < until {
                match client.exchange(&request).await?.status {
                    200 => requests += 1,
                    status => return Err(format!("an answer with status {status}").into()),
                }
            }
            Ok::<u64, Failure>(requests)
        });
    }
    let mut requests = 0;
    while let Some(counted) = running.join_next().await {
        requests += counted??;
    }
    Ok(Round { requests, elapsed: begun.elapsed() })
}
