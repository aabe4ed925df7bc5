//! A ledger of effects outside the platform, kept by this process: where the handlers of
//! [`node`](crate::node) leave their mark.
//!
//! It does what a resource behind a fencing token does: it takes no effect of an older token once it
//! has seen a newer one of the same job.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::Failure;

/// What an attempt wanted to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effect {
    /// Its token.
    pub token: i64,
    /// Whether the ledger took it.
    pub taken: bool,
}

/// Effects by job, in the order in which they came.
pub type ByJob = BTreeMap<String, Vec<Effect>>;

/// The ledger, listening. Dropping it closes it.
#[derive(Debug)]
pub struct Effects {
    /// Where effects are announced.
    pub address: SocketAddr,
    seen: Arc<Mutex<ByJob>>,
    task: JoinHandle<()>,
}

impl Effects {
    /// Opens a ledger on a free loopback port.
    ///
    /// # Errors
    /// The operating system's own.
    pub async fn open() -> Result<Self, Failure> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let seen = Arc::new(Mutex::new(ByJob::new()));
        let book = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&book)));
            }
        });
        Ok(Self { address, seen, task })
    }

    /// Everything that was announced so far.
    pub fn all(&self) -> ByJob {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Effects {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Announces an effect to the ledger at `address`; `true` if it was taken, `false` if a newer attempt
/// was there before.
///
/// # Errors
/// The ledger is not there: the effect may have been taken or not.
pub async fn announce(address: SocketAddr, job: &str, token: i64) -> Result<bool, Failure> {
    let mut stream = BufReader::new(TcpStream::connect(address).await?);
    stream.write_all(format!("{job} {token}\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_line(&mut answer).await?;
    match answer.trim() {
        "taken" => Ok(true),
        "stale" => Ok(false),
        other => Err(format!("the ledger answered {other:?}").into()),
    }
}

/// One line, one answer. Whoever dies in between is none of the ledger's business.
async fn serve(stream: TcpStream, book: Arc<Mutex<ByJob>>) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    if stream.read_line(&mut line).await.is_err() {
        return;
    }
    let Some((job, token)) = line.trim().split_once(' ') else { return };
    let Ok(token) = token.parse() else { return };
    let taken = take(&mut book.lock().unwrap_or_else(PoisonError::into_inner), job, token);
    let _ = stream.write_all(if taken { b"taken\n" } else { b"stale\n" }).await;
}

fn take(book: &mut ByJob, job: &str, token: i64) -> bool {
    let effects = book.entry(job.to_owned()).or_default();
    let taken = effects.iter().all(|effect| effect.token <= token);
    effects.push(Effect { token, taken });
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_older_attempt_is_turned_away_once_a_newer_one_was_there() {
        let ledger = Effects::open().await.expect("a free port");
        assert!(announce(ledger.address, "job", 3).await.expect("it answers"));
        assert!(announce(ledger.address, "job", 5).await.expect("it answers"));
        assert!(!announce(ledger.address, "job", 3).await.expect("it answers"));
        assert!(announce(ledger.address, "other", 1).await.expect("it answers"));
        assert_eq!(3, ledger.all()["job"].len());
    }
}
