//! A data folder with the processes of a pairing on it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::sync::watch;

use crate::logs::Tally;
use crate::node::LEDGER;
use crate::pairing::Pairing;
use crate::plan::{Armament, MID_DRAIN, Role};
use crate::process::Process;
use crate::redis::Redis;
use crate::{BOUND, Failure};

/// How long a claim holds in a campaign.
pub const LEASE: Duration = Duration::from_millis(900);

/// How long an armed process is left alone, so that it may come by its point.
const ON_ITS_WAY: Duration = Duration::from_millis(4000);

/// The same where it has to encode before it puts something.
const ENCODING: Duration = Duration::from_millis(10_000);

/// How long a write waits for another process's lock.
pub const BUSY_TIMEOUT: Duration = Duration::from_millis(1000);

/// Everything a campaign needs to be short: leases that run out soon, limits that are never met.
const CONFIG: &str = r#"
[server]
drain_ms = 1500
metrics_enabled = false

[auth]
access_ttl_s = 86400

[sqlite]
busy_timeout_ms = 1000

[worker]
lease_ms = 900
heartbeat_ms = 150
sweep_ms = 200
grace_ms = 500
retry_base_ms = 50
retry_cap_ms = 500

# Once a year: nobody but the judge collects, so that what kills leave behind is counted.
[housekeeping]
collect_every_s = 31536000
"#;

/// Where the programs under test are.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The server.
    pub server: PathBuf,
    /// The worker.
    pub worker: PathBuf,
}

impl Programs {
    /// `vidserver` and `vidworker`, built together with this program: they stand in the same folder.
    ///
    /// # Errors
    /// They have not been built.
    pub fn real() -> Result<Self, Failure> {
        Ok(Self { server: beside_this("nemesis-vidserver")?, worker: beside_this("nemesis-vidworker")? })
    }

    /// The program that embeds the platform, in both places.
    ///
    /// # Errors
    /// It has not been built.
    pub fn embedding() -> Result<Self, Failure> {
        let node = beside_this("nemesis-node")?;
        Ok(Self { server: node.clone(), worker: node })
    }
}

fn beside_this(name: &str) -> Result<PathBuf, Failure> {
    let path = std::env::current_exe()?.with_file_name(name);
    if path.is_file() { Ok(path) } else { Err(format!("{} has not been built", path.display()).into()) }
}

/// What every process of a site is told by its environment.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// `simulated` or `ffmpeg`.
    pub transcoder: &'static str,
    /// How often a job is tried.
    pub attempts: u16,
    /// Where the ledger of effects is, for programs that embed the platform.
    pub ledger: Option<SocketAddr>,
}

/// One process's place: who stands there changes with every kill.
#[derive(Debug)]
pub struct Slot {
    /// `server`, `worker-1` and so on.
    pub name: String,
    /// What it is there for.
    pub role: Role,
    /// Who stands there now.
    pub process: Option<Process>,
    /// What it was armed with.
    pub armed: Option<Armament>,
    started: Instant,
    /// How long after its start it is left alone if it is armed.
    left_alone: Duration,
    lives: u32,
}

impl Slot {
    /// Whether it is armed and has not had the time yet to come by its point.
    pub fn is_on_its_way(&self) -> bool {
        self.armed.is_some_and(|armed| armed.point != MID_DRAIN) && self.started.elapsed() < self.left_alone
    }
}

/// The folder and its processes. Dropping it ends them all.
#[derive(Debug)]
pub struct Site {
    /// Holds the data folder, the logs and the configuration.
    pub root: PathBuf,
    /// The places, the server's first.
    pub slots: Vec<Slot>,
    programs: Programs,
    setting: Setting,
    redis: Option<Redis>,
    address: watch::Sender<Option<SocketAddr>>,
    tally: Tally,
    panics: Vec<String>,
}

impl Site {
    /// Prepares the folder `root`, which must not exist, and starts nothing.
    ///
    /// # Errors
    /// The file system's own.
    pub fn new(root: PathBuf, pairing: Pairing, programs: Programs, setting: Setting) -> Result<Self, Failure> {
        std::fs::create_dir_all(root.join("logs"))?;
        std::fs::write(root.join("config.toml"), config())?;
        let server = if pairing.works_inside() { Role::ServerAndWorker } else { Role::Server };
        let left_alone = if setting.transcoder == "ffmpeg" { ENCODING } else { ON_ITS_WAY };
        let slot = |name: String, role| {
            let (started, lives) = (Instant::now(), 0);
            Slot { name, role, process: None, armed: None, started, left_alone, lives }
        };
        let mut slots = vec![slot("server".to_owned(), server)];
        let redis = if pairing.redis { Some(Redis::somewhere()?) } else { None };
        slots.extend((1..=pairing.workers).map(|number| slot(format!("worker-{number}"), Role::Worker)));
        slots.extend(redis.map(|_| slot("redis".to_owned(), Role::Redis)));
        let (tally, panics) = (Tally::default(), Vec::new());
        Ok(Self { root, slots, programs, setting, redis, address: watch::Sender::new(None), tally, panics })
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// Where the server listens, now and after every restart.
    pub fn address(&self) -> watch::Receiver<Option<SocketAddr>> {
        self.address.subscribe()
    }

    /// Whether objects are put by attempts: the simulated transcoder publishes the original itself.
    pub fn puts(&self) -> bool {
        self.setting.transcoder == "ffmpeg"
    }

    /// Starts whoever is missing, unarmed.
    ///
    /// # Errors
    /// A process does not start, or a server does not say where it listens.
    pub async fn start_missing(&mut self) -> Result<(), Failure> {
        // Redis stands last, and nobody needs it to start; but a site that is whole begins with it.
        for index in (0..self.slots.len()).rev() {
            if self.slots[index].process.is_none() {
                self.start(index, None).await?;
            }
        }
        Ok(())
    }

    /// Starts a process at an empty place. An armed one may die before it is up: that is seen later.
    ///
    /// # Errors
    /// It does not start, or a server that lives does not say where it listens.
    pub async fn start(&mut self, index: usize, armed: Option<Armament>) -> Result<(), Failure> {
        let slot = &mut self.slots[index];
        slot.lives += 1;
        let log = self.root.join("logs").join(format!("{}-{:03}.log", slot.name, slot.lives));
        if let (Role::Redis, Some(redis)) = (slot.role, self.redis) {
            slot.process = Some(redis.start(&self.root, log).await?);
            return Ok(());
        }
        let program = if slot.role == Role::Worker { &self.programs.worker } else { &self.programs.server };
        let (role, root, setting) = (slot.role, &self.root, self.setting);
        let redis = self.redis;
        let mut process = Process::start(program, |command| arrange(command, role, root, setting, redis, armed), log)?;
        if role != Role::Worker {
            // A server that freezes at its start is as good as one that freezes later.
            let begun = Instant::now();
            let address = loop {
                match process.line(Duration::from_millis(200), |line| line.api_address()).await? {
                    Some(address) => break Some(address),
                    None if process.ended()?.is_some() || process.is_stopped() => break None,
                    None if begun.elapsed() > BOUND => break None,
                    None => {}
                }
            };
            self.address.send_replace(address);
            if address.is_none() && armed.is_none() {
                return Err("the server does not come up".into());
            }
        }
        slot.process = Some(process);
        slot.started = Instant::now();
        slot.armed = armed;
        Ok(())
    }

    /// Empties a place whose process has ended, and reads its log for the last time.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn bury(&mut self, index: usize) -> Result<(), Failure> {
        let slot = &mut self.slots[index];
        slot.armed = None;
        let Some(mut process) = slot.process.take() else { return Ok(()) };
        if slot.role.serves() {
            self.address.send_replace(None);
        }
        let (tally, panics) = (&mut self.tally, &mut self.panics);
        count(&mut process, tally, panics)
    }

    /// What all logs come to so far, those of the living included.
    ///
    /// # Errors
    /// A log cannot be read.
    pub fn tally(&mut self) -> Result<Tally, Failure> {
        let mut tally = self.tally;
        for process in self.slots.iter_mut().filter_map(|slot| slot.process.as_mut()) {
            process.lines()?.iter().for_each(|line| tally.take(line));
        }
        Ok(tally)
    }

    /// Texts of panics in the logs of the buried.
    pub fn panics(&self) -> &[String] {
        &self.panics
    }

    /// A server that came up frozen tells its address once it goes on.
    ///
    /// # Errors
    /// Its log cannot be read.
    pub async fn find_server(&mut self) -> Result<(), Failure> {
        if self.address.borrow().is_none()
            && let Some(process) = self.slots[0].process.as_mut()
        {
            let address = process.line(BOUND, |line| line.api_address()).await?;
            self.address.send_replace(address);
        }
        Ok(())
    }

    /// Runs `vidserver doctor --deep` beside everybody, as an operator would; what it says is an error unless
    /// it finds nothing and exits with 0.
    ///
    /// # Errors
    /// It has not been built, or takes too long.
    pub async fn examine(&self) -> Result<Result<(), String>, Failure> {
        let mut command = tokio::process::Command::new(beside_this("nemesis-vidserver")?);
        command.env_clear().args(["doctor", "--deep", "--config"]).arg(self.root.join("config.toml"));
        command.arg("--data-dir").arg(self.data()).stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(BOUND, command.output()).await??;
        if output.status.success() {
            return Ok(Ok(()));
        }
        let words = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Ok(Err(format!("{}: {}", output.status, words.concat())))
    }

    /// Asks everybody to stop, as an operator would, and waits until they have; `false` if one did not
    /// end well.
    ///
    /// # Errors
    /// The operating system's own.
    pub async fn stop(&mut self) -> Result<bool, Failure> {
        for process in self.slots.iter().filter_map(|slot| slot.process.as_ref()) {
            process.signal(Signal::TERM);
        }
        let mut well = true;
        for index in 0..self.slots.len() {
            if let Some(process) = self.slots[index].process.as_mut() {
                well &= process.end(BOUND).await?.is_some_and(|status| status.success());
                self.bury(index)?;
            }
        }
        Ok(well)
    }
}

fn count(process: &mut Process, tally: &mut Tally, panics: &mut Vec<String>) -> Result<(), Failure> {
    for line in process.lines()? {
        tally.take(line);
        if line.panicked() {
            panics.push(line.message().to_owned());
        }
    }
    Ok(())
}

fn arrange(
    command: &mut Command,
    role: Role,
    root: &Path,
    setting: Setting,
    redis: Option<Redis>,
    armed: Option<Armament>,
) {
    if role.serves() {
        command.args(["serve", "--listen", "127.0.0.1:0"]);
    }
    if role == Role::Server {
        command.arg("--no-worker");
    }
    command.arg("--config").arg(root.join("config.toml")).arg("--data-dir").arg(root.join("data"));
    command.env("VID_MEDIA__TRANSCODER", setting.transcoder);
    command.env("VID_WORKER__MAX_ATTEMPTS", setting.attempts.to_string());
    if let Some(redis) = redis {
        command.env("VID_REDIS__URL", redis.url()).env("VID_WORKER__DISPATCHER", "redis");
    }
    if let Some(ledger) = setting.ledger {
        command.env(LEDGER, ledger.to_string());
    }
    if let Some(armed) = armed {
        command.env("FAILPOINTS", armed.variable());
    }
}

fn config() -> String {
    let mut config = CONFIG.to_owned();
    let classes = ["read", "search", "upload", "write"].map(|class| [(class, "user"), (class, "address")]);
    let attempts = [("login", "address"), ("login", "account"), ("login", "familiar")];
    let sign_ups = [("register", "address"), ("register", "account")];
    for (class, subject) in classes.as_flattened().iter().chain(&attempts).chain(&sign_ups) {
        config.push_str(&format!(
            "\n[rate_limits.policies.\"{class}.{subject}\"]\nlimit = 2000000\nwindow_s = 3600\nburst = 1000000\n"
        ));
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_lease_and_wait_as_long_as_a_campaign_believes() {
        assert!(CONFIG.contains(&format!("lease_ms = {}\n", LEASE.as_millis())));
        assert!(CONFIG.contains(&format!("busy_timeout_ms = {}\n", BUSY_TIMEOUT.as_millis())));
    }
}
