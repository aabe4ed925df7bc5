//! A Redis of a test's own, which the test can stop, freeze and empty.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::entropy::SystemEntropy;
use crate::platform::settings::{RedisSettings, Secret};
use crate::redis::RedisServer;
use crate::testkit::store::{PATIENCE, temporary_folder};

/// How often another port is tried, should somebody else have taken the one that was free.
const PORTS_TRIED: usize = 5;

/// How long an answer to a command of the test itself may take.
const ANSWER: Duration = Duration::from_secs(10);

/// What survives the end of the server.
#[derive(Debug, Clone, Copy)]
enum Persistence {
    None,
    EachWrite,
}

/// A `redis-server` on a loopback port, without persistence unless it was started durable. It is killed with the value, and by the
/// kernel should the thread that started it end before.
#[derive(Debug)]
pub struct TestRedis {
    folder: TempDir,
    persistence: Persistence,
    port: u16,
    child: Option<Child>,
    prefixes: AtomicU64,
}

impl TestRedis {
    /// Starts one and waits until it answers; `None`, with a line on standard error, where there is no
    /// `redis-server`. Call it on a thread that lives as long as the test: not on a blocking pool.
    ///
    /// # Panics
    /// If it does not start, or is missing under `VID_TEST_REQUIRE=all`.
    pub fn start() -> Option<Self> {
        Self::start_in(temporary_folder().expect("there is a temporary folder"), Persistence::None)
    }

    /// Starts one that answers a write once it is on the disk of the temporary folder (`appendfsync always`),
    /// for what is to be compared with that.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn start_durable() -> Option<Self> {
        Self::start_in(tempfile::tempdir().expect("there is a temporary folder"), Persistence::EachWrite)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    fn start_in(folder: TempDir, persistence: Persistence) -> Option<Self> {
        if !crate::testkit::require("redis-server", program("redis-server").is_some()) {
            return None;
        }
        let mut redis = Self { folder, persistence, port: 0, child: None, prefixes: AtomicU64::new(0) };
        for _ in 0..PORTS_TRIED {
            redis.port = free_port().expect("a port is free");
            if redis.try_launch() {
                return Some(redis);
            }
        }
        panic!("redis-server does not start: {}", redis.log());
    }

    /// How to reach it, with short bounds and a prefix nobody else has.
    pub fn settings(&self) -> RedisSettings {
        RedisSettings {
            url: Secret::new(format!("redis://127.0.0.1:{}", self.port)),
            prefix: format!("test{}", self.prefixes.fetch_add(1, Ordering::Relaxed)),
            ..RedisSettings::default()
        }
    }

    /// The same as the platform has it.
    ///
    /// # Panics
    /// Never: the settings are right.
    pub fn server(settings: &RedisSettings) -> RedisServer {
        RedisServer::new(settings, Arc::new(SystemEntropy)).expect("the settings of a test are right")
    }

    /// Kills it. Everything in it is gone.
    ///
    /// # Panics
    /// If it cannot be killed.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a child can be killed");
            child.wait().expect("a child can be waited for");
        }
    }

    /// Starts it again, empty, on the same port.
    ///
    /// # Panics
    /// If it does not start.
    pub fn restart(&mut self) {
        self.stop();
        // The port may take a moment to be free of the old one's connections.
        let given_up = Instant::now() + PATIENCE;
        while !self.try_launch() {
            assert!(Instant::now() < given_up, "redis-server does not start again: {}", self.log());
        }
    }

    /// Stops its process (`SIGSTOP`): it takes connections and answers nothing.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on after [`freeze`](Self::freeze).
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Throws away everything in it.
    pub fn flush(&self) {
        assert_eq!("+OK", self.command("FLUSHALL"));
    }

    /// The first line of the answer to a command without spaces in its arguments, such as `LLEN list`.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn command(&self, command: &str) -> String {
        self.ask(command).expect("Redis answers")
    }

    /// The answer to a command that is answered with a text, such as `INFO clients`.
    ///
    /// # Panics
    /// If it is answered otherwise or not at all.
    pub fn text(&self, command: &str) -> String {
        let mut connection = self.connect().expect("Redis takes connections");
        connection.get_mut().write_all(format!("{command}\r\n").as_bytes()).expect("Redis listens");
        let mut line = String::new();
        connection.read_line(&mut line).expect("Redis answers");
        let size: usize = line.trim_start_matches('$').trim_end().parse().expect("the answer is a text");
        let mut text = vec![0; size];
        connection.read_exact(&mut text).expect("Redis answers");
        String::from_utf8(text).expect("the text is UTF-8")
    }

    /// The texts of the list that a command is answered with, such as `KEYS *`.
    ///
    /// # Panics
    /// If it is answered otherwise or not at all.
    pub fn texts(&self, command: &str) -> Vec<String> {
        let mut connection = self.connect().expect("Redis takes connections");
        connection.get_mut().write_all(format!("{command}\r\n").as_bytes()).expect("Redis listens");
        let mut line = || {
            let mut line = String::new();
            connection.read_line(&mut line).expect("Redis answers");
            line.trim_end().to_owned()
        };
        let count: usize = line().trim_start_matches('*').parse().expect("the answer is a list");
        // Each text stands below its length.
        (0..count).map(|_| (line(), line()).1).collect()
    }

    /// How many connections there are, the asking one left out.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn connections(&self) -> usize {
        self.text("CLIENT LIST").lines().count() - 1
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it runs");
        let pid = Pid::from_child(child);
        kill_process(pid, signal).expect("a child can be sent signals");
    }

    /// Whether it came up; false if its port was taken.
    fn try_launch(&mut self) -> bool {
        let mut child = self.launch().expect("redis-server can be started");
        let given_up = Instant::now() + PATIENCE;
        loop {
            if child.try_wait().expect("a child can be asked for").is_some() {
                return false;
            }
            // Another program on that port would answer too, but then the child has gone.
            if self.ask("PING").is_ok_and(|answer| answer == "+PONG") && child.try_wait().is_ok_and(|end| end.is_none())
            {
                self.child = Some(child);
                return true;
            }
            assert!(Instant::now() < given_up, "redis-server does not answer: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn launch(&self) -> io::Result<Child> {
        // setpriv becomes redis-server, which so has the child's pid, and dies with this thread.
        let mut command = match program("setpriv") {
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                command.args(["--pdeathsig", "KILL", "redis-server"]);
                command
            }
            None => Command::new("redis-server"),
        };
        command
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--save", "", "--appendfsync", "always"])
            .args(["--appendonly", if matches!(self.persistence, Persistence::EachWrite) { "yes" } else { "no" }])
            .args(["--maxmemory", "64mb", "--logfile", "log", "--dir"])
            .arg(self.folder.path())
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
    }

    fn connect(&self) -> io::Result<BufReader<TcpStream>> {
        let connection = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        connection.set_read_timeout(Some(ANSWER))?;
        Ok(BufReader::new(connection))
    }

    fn ask(&self, command: &str) -> io::Result<String> {
        let mut connection = self.connect()?;
        connection.get_mut().write_all(format!("{command}\r\n").as_bytes())?;
        let mut line = String::new();
        connection.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for TestRedis {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Nothing can be done about a child that has gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Where `name` is in `PATH`.
fn program(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file())
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
