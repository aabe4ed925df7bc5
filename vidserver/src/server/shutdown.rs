//! When to stop: gently on the first signal, at once on the second.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Two wishes: to drain, and to give up draining. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    drain: CancellationToken,
    abort: CancellationToken,
}

impl Stop {
    /// A stop that nobody has asked for yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks to drain; asked again, gives up draining.
    pub fn ask(&self) {
        match self.drain.is_cancelled() {
            false => self.drain.cancel(),
            true => self.abort.cancel(),
        }
    }

    /// Waits until draining is asked for. Cancel safe.
    pub async fn drain_asked(&self) {
        self.drain.cancelled().await;
    }

    /// Waits until draining is to be given up. Cancel safe.
    pub async fn abort_asked(&self) {
        self.abort.cancelled().await;
    }

    /// Asks on each SIGTERM or SIGINT from now on, for as long as the process lives.
    ///
    /// # Errors
    /// The system refuses to deliver signals to this process.
    pub fn ask_on_signals(&self) -> io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stop = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                tracing::info!("signal received: stopping");
                stop.ask();
            }
        });
        Ok(())
    }
}
