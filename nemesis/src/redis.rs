//! A Redis of a site's own. It keeps nothing on disk: whenever it is killed, every hint is gone.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::process::Process;
use crate::{BOUND, Failure};

/// How long it is waited for between two looks at whether it is there.
const LOOK: Duration = Duration::from_millis(10);

/// Where it listens, in every life.
#[derive(Debug, Clone, Copy)]
pub struct Redis {
    port: u16,
}

impl Redis {
    /// One on a port that is free now.
    ///
    /// # Errors
    /// The operating system's own.
    pub fn somewhere() -> Result<Self, Failure> {
        Ok(Self { port: TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port() })
    }

    /// What the programs under test are told.
    pub fn url(self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Starts it, empty, and waits until it takes connections.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn start(self, folder: &Path, log: PathBuf) -> Result<Process, Failure> {
        let port = self.port.to_string();
        let mut process = Process::start(
            Path::new("redis-server"),
            |command| {
                command.args(["--bind", "127.0.0.1", "--port", &port, "--save", "", "--appendonly", "no"]);
                command.arg("--dir").arg(folder);
            },
            log,
        )?;
        let begun = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await.is_err() {
            if process.ended()?.is_some() || begun.elapsed() > BOUND {
                return Err("redis-server does not come up".into());
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(process)
    }
}
