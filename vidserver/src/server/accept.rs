//! The accept loop: as many connections as are allowed, and a clean end.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::Connections;
use super::shutdown::Stop;
use crate::config::ServerSettings;

/// The first pause after an accept that failed for want of something; doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// The longest pause: descriptors come back as connections end.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Every request that was running has been answered.
    Clean,
    /// Time ran out, or a second stop was asked for, with this many connections open.
    Cut(usize),
}

/// A bound socket with the router it will serve.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    app: Router,
    settings: Arc<ServerSettings>,
}

impl Server {
    /// Binds `address`; port 0 takes a free one. Nothing is accepted yet.
    ///
    /// # Errors
    /// The address is in use or not this machine's.
    pub async fn bind(address: SocketAddr, settings: ServerSettings, app: Router) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, app, settings: Arc::new(settings) })
    }

    /// The address that was bound, with its real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is asked for, then drains within the settings' time.
    ///
    /// Draining closes the listener at once, lets running requests end and closes idle connections.
    pub async fn run(self, stop: Stop) -> Drained {
        let tasks = TaskTracker::new();
        let kill = CancellationToken::new();
        let drain = self.settings.drain();
        self.accept_until(&stop, &tasks, &kill).await;
        tasks.close();
        tokio::select! {
            () = tasks.wait() => return Drained::Clean,
            () = tokio::time::sleep(drain) => {}
            () = stop.abort_asked() => {}
        }
        let open = tasks.len();
        kill.cancel();
        tasks.wait().await;
        Drained::Cut(open)
    }

    /// Accepts into `tasks`; the listener is closed on return.
    async fn accept_until(self, stop: &Stop, tasks: &TaskTracker, kill: &CancellationToken) {
        let room = Arc::new(Semaphore::new(self.settings.max_connections));
        let connections = Connections::new(self.app.clone(), self.settings.clone(), stop.clone(), kill.clone());
        let mut pause = FIRST_PAUSE;
        loop {
            // Room is taken before a connection: those beyond it wait in the kernel's queue.
            let accepted = tokio::select! {
                biased;
                () = stop.drain_asked() => return,
                accepted = accept_with_room(&self.listener, &room) => accepted,
            };
            match accepted {
                Ok((stream, peer, permit)) => {
                    pause = FIRST_PAUSE;
                    let connections = connections.clone();
                    tasks.spawn(async move {
                        connections.serve(stream, peer).await;
                        drop(permit);
                    });
                }
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, pause_ms = pause.as_millis() as u64, "cannot accept connections");
                    tokio::select! {
                        () = stop.drain_asked() => return,
                        () = tokio::time::sleep(pause) => {}
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }
}

async fn accept_with_room(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = room.clone().acquire_owned().await.expect("the semaphore is never closed");
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, permit))
}

/// A connection that ended while it waited says nothing about the next one.
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused)
}
