//! Child processes: servers that are started, watched through `/proc` and always ended.

use std::fs;
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Failure;
use crate::client::Client;

/// The longest wait for a server to answer at all.
const START_PATIENCE: Duration = Duration::from_secs(20);

/// A server process. Dropping it kills and reaps it.
#[derive(Debug)]
pub struct ServerProcess {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// Where it shows its figures, if it does.
    pub metrics: Option<SocketAddr>,
    /// From the moment of its start to the first answer on its port.
    pub start_time: Duration,
}

impl ServerProcess {
    /// Runs `vidserver serve` on a free loopback port, without `VID_` variables of this process. Its log
    /// goes to `log`, as it would to a file in real use.
    ///
    /// # Errors
    /// The program does not start, or does not answer within 20 s.
    pub async fn vidserver(program: &Path, data: &Path, config: Option<&Path>, log: &Path) -> Result<Self, Failure> {
        let (address, metrics) = (free_port()?, free_port()?);
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("VID_")) {
            command.env_remove(name);
        }
        if let Some(config) = config {
            command.arg("--config").arg(config);
        }
        command.arg("--data-dir").arg(data).arg("serve");
        command.arg("--listen").arg(address.to_string()).arg("--metrics-listen").arg(metrics.to_string());
        let mut process = Self::start(command, address, "/healthz", log).await?;
        process.metrics = Some(metrics);
        Ok(process)
    }

    /// Runs this program once more, as the bare twin that serves the bytes of `body`.
    ///
    /// # Errors
    /// As [`vidserver`](Self::vidserver).
    pub async fn bare(body: &Path, log: &Path) -> Result<Self, Failure> {
        let address = free_port()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("bare").arg(address.to_string()).arg(body);
        Self::start(command, address, "/", log).await
    }

    async fn start(mut command: Command, address: SocketAddr, path: &str, log: &Path) -> Result<Self, Failure> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(log)?);
        let begun = Instant::now();
        let child = command.spawn().map_err(|error| format!("{:?}: {error}", command.get_program()))?;
        let mut process = Self { child, address, metrics: None, start_time: Duration::ZERO };
        while !answers(address, path).await {
            if let Some(status) = process.child.try_wait()? {
                return Err(format!("the server ended at its start ({status}): {}", fs::read_to_string(log)?).into());
            }
            if begun.elapsed() > START_PATIENCE {
                return Err("the server does not answer".into());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        process.start_time = begun.elapsed();
        Ok(process)
    }

    /// Resident memory now, in bytes.
    ///
    /// # Errors
    /// `/proc` is not there.
    pub fn resident(&self) -> io::Result<u64> {
        self.status_kib("VmRSS:").map(|kib| kib * 1024)
    }

    /// The most resident memory since the last [`forget_peak`](Self::forget_peak), in bytes.
    ///
    /// # Errors
    /// `/proc` is not there.
    pub fn peak_resident(&self) -> io::Result<u64> {
        self.status_kib("VmHWM:").map(|kib| kib * 1024)
    }

    /// Sets the peak back to what is resident now (`proc(5)`, `clear_refs`).
    ///
    /// # Errors
    /// The kernel does not offer it.
    pub fn forget_peak(&self) -> io::Result<()> {
        fs::write(self.proc().join("clear_refs"), "5")
    }

    /// Processor time of all its threads so far.
    ///
    /// # Errors
    /// `/proc` is not there.
    pub fn processor_time(&self) -> io::Result<Duration> {
        processor_time_of(self.child.id())
    }

    fn proc(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}", self.child.id()))
    }

    fn status_kib(&self, name: &str) -> io::Result<u64> {
        let status = fs::read_to_string(self.proc().join("status"))?;
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok());
        value.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill, and it is reaped all the same.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor time of all threads that a process has now.
///
/// # Errors
/// `/proc` is not there.
pub fn processor_time_of(process: u32) -> io::Result<Duration> {
    let mut nanos = 0;
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        // A thread that has ended since the folder was read takes its share with it.
        let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
        nanos += text.split_whitespace().next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0);
    }
    Ok(Duration::from_nanos(nanos))
}

/// The `vidserver` program of the same build as this program: it stands in the same folder.
///
/// # Errors
/// It has not been built.
pub fn vidserver_beside() -> Result<PathBuf, Failure> {
    let program = std::env::current_exe()?.with_file_name("vidserver");
    if program.is_file() { Ok(program) } else { Err("build vidserver with the same profile first".into()) }
}

/// A port nobody listens on now.
fn free_port() -> io::Result<SocketAddr> {
    TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?.local_addr()
}

async fn answers(address: SocketAddr, path: &str) -> bool {
    match Client::connect(address).await {
        Ok(mut client) => client.exchange(&Client::get_head(path)).await.is_ok_and(|answer| answer.status == 200),
        Err(_) => false,
    }
}
