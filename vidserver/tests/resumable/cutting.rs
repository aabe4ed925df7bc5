//! A network that cuts connections in the middle of anything, both ways.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Bytes passed on at once.
const BUFFER: usize = 16 * 1024;

/// How long connections may take to stall: far above what it takes.
const BOUND: Duration = Duration::from_secs(60);

/// What becomes of a connection that has passed what it may.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Then {
    /// Both ends go at once, with whatever is on its way.
    #[default]
    Cut,
    /// Nothing more passes, and neither end is told.
    Stall,
}

/// What a connection may pass.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Allowance {
    /// Bytes to the server; `None` for any number.
    pub(crate) sent: Option<u64>,
    /// Bytes to the client.
    pub(crate) answered: Option<u64>,
    pub(crate) then: Then,
}

/// A proxy before a server. Dropping it ends it and every connection.
#[derive(Debug)]
pub(crate) struct Cutting {
    pub(crate) address: SocketAddr,
    /// One permit for each connection that stalls.
    stalled: Arc<Semaphore>,
    _running: JoinSet<()>,
}

impl Cutting {
    /// Before the server at `to`; what the next connection may pass, `allow` says.
    pub(crate) async fn start(to: SocketAddr, allow: impl FnMut() -> Allowance + Send + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (mut running, stalled) = (JoinSet::new(), Arc::new(Semaphore::new(0)));
        running.spawn(listen(listener, to, allow, Arc::clone(&stalled)));
        Self { address, stalled, _running: running }
    }

    /// Waits until so many connections have stalled.
    pub(crate) async fn until_stalled(&self, connections: u32) {
        let waiting = tokio::time::timeout(BOUND, self.stalled.acquire_many(connections));
        waiting.await.expect("they stall").expect("it is never closed").forget();
    }
}

async fn listen(listener: TcpListener, to: SocketAddr, mut allow: impl FnMut() -> Allowance, stalled: Arc<Semaphore>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((client, _)) = accepted {
                    connections.spawn(pass(client, to, allow(), Arc::clone(&stalled)));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Until either way has passed what it may, or either side has ended.
async fn pass(client: TcpStream, to: SocketAddr, allowance: Allowance, stalled: Arc<Semaphore>) {
    let Ok(server) = TcpStream::connect(to).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    // Both ends live on until this returns.
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let is_used_up = tokio::select! {
        is_used_up = carry(&mut from_client, &mut to_server, allowance.sent) => is_used_up,
        is_used_up = carry(&mut from_server, &mut to_client, allowance.answered) => is_used_up,
    };
    if is_used_up && allowance.then == Then::Stall {
        stalled.add_permits(1);
        std::future::pending().await
    }
}

/// Whether all that may pass has passed; else an end has gone.
async fn carry(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    allowance: Option<u64>,
) -> bool {
    let (mut buffer, mut left) = (vec![0; BUFFER], allowance.unwrap_or(u64::MAX));
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let passed = read.min(usize::try_from(left).unwrap_or(usize::MAX));
        left -= passed as u64;
        if to.write_all(&buffer[..passed]).await.is_err() {
            return false;
        }
        if left == 0 {
            return true;
        }
    }
    false
}
