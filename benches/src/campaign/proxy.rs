//! A TCP proxy before Redis that can do what networks do.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::Failure;

/// Bytes passed on at once.
const BUFFER: usize = 16 * 1024;

/// What it does with connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Passes everything on.
    Pass,
    /// Ends each connection half way through the next answer.
    CutHalfWay,
    /// Ends every connection, and nobody listens.
    Refuse,
}

/// A running proxy. Dropping it ends it.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens, whenever it does.
    pub address: SocketAddr,
    mode: watch::Sender<Mode>,
    _running: JoinSet<()>,
}

impl Proxy {
    /// Before the server at a loopback port. It passes everything on at first.
    ///
    /// # Errors
    /// The socket's own.
    pub async fn start(to: u16) -> Result<Self, Failure> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let (address, mode) = (listener.local_addr()?, watch::Sender::new(Mode::Pass));
        let mut running = JoinSet::new();
        running.spawn(listen(listener, address, SocketAddr::from((Ipv4Addr::LOCALHOST, to)), mode.subscribe()));
        Ok(Self { address, mode, _running: running })
    }

    /// From now on does this.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

async fn listen(listener: TcpListener, address: SocketAddr, to: SocketAddr, mut mode: watch::Receiver<Mode>) {
    let (mut listener, mut connections) = (Some(listener), JoinSet::new());
    loop {
        let is_refusing = *mode.borrow_and_update() == Mode::Refuse;
        if is_refusing {
            listener = None;
            connections.shutdown().await;
        } else if listener.is_none() {
            // Its port is nobody else's but by an odd chance; then this proxy is of no use and bounds will say so.
            listener = TcpListener::bind(address).await.ok();
        }
        tokio::select! {
            changed = mode.changed() => if changed.is_err() { return },
            Some(accepted) = accept(listener.as_ref()) => {
                connections.spawn(pass(accepted, to, mode.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> Option<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.ok().map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

/// Until either side ends, or this one does.
async fn pass(mut client: TcpStream, to: SocketAddr, mode: watch::Receiver<Mode>) {
    let Ok(mut server) = TcpStream::connect(to).await else { return };
    // Small commands and answers: waiting to fill a packet would be all of their time.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut asked, mut answered) = (vec![0; BUFFER], vec![0; BUFFER]);
    loop {
        let passed = tokio::select! {
            read = client.read(&mut asked) => match read {
                Ok(read @ 1..) => server.write_all(&asked[..read]).await,
                _ => return,
            },
            read = server.read(&mut answered) => match read {
                Ok(read @ 1..) if *mode.borrow() == Mode::CutHalfWay => {
                    let _ = client.write_all(&answered[..read / 2]).await;
                    return;
                }
                Ok(read @ 1..) => client.write_all(&answered[..read]).await,
                _ => return,
            },
        };
        if passed.is_err() {
            return;
        }
    }
}
