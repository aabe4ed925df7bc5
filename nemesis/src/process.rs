//! One process under test: started, signalled, watched, and always ended.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Failure;
use crate::logs::{Line, Reader};

/// How often a process is looked at while something is waited for.
const LOOK: Duration = Duration::from_millis(10);

/// A running child. Dropping it continues, kills and reaps it, whatever state it is in.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
    reader: Reader,
    lines: Vec<Line>,
}

impl Process {
    /// Starts `command` with its log in the new file `log`. Call it on the main thread: with
    /// `setpriv`, the child is killed when the thread that started it ends.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(program: &Path, arrange: impl FnOnce(&mut Command), log: PathBuf) -> Result<Self, Failure> {
        let mut command = bound_to_this_process(program);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        arrange(&mut command);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create_new(&log)?);
        let child = command.spawn().map_err(|error| format!("{}: {error}", program.display()))?;
        Ok(Self { child, log, reader: Reader::default(), lines: Vec::new() })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal; one that has ended already is fine.
    pub fn signal(&self, signal: Signal) {
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// The operating system's own.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, Failure> {
        Ok(self.child.try_wait()?)
    }

    /// Waits until it has ended; `None` if it takes longer than `bound`.
    ///
    /// # Errors
    /// The operating system's own.
    pub async fn end(&mut self, bound: Duration) -> Result<Option<ExitStatus>, Failure> {
        let begun = Instant::now();
        loop {
            let ended = self.ended()?;
            if ended.is_some() || begun.elapsed() >= bound {
                return Ok(ended);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Kills it as by `kill -9` and reaps it.
    ///
    /// # Errors
    /// The operating system's own.
    pub fn kill(&mut self) -> Result<ExitStatus, Failure> {
        self.signal(Signal::KILL);
        Ok(self.child.wait()?)
    }

    /// Whether every one of its threads stands still, as after SIGSTOP.
    pub fn is_stopped(&self) -> bool {
        let state = |stat: String| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'));
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.id()));
        threads.is_ok_and(|threads| {
            let mut threads = threads.flatten().peekable();
            threads.peek().is_some()
                && threads.all(|thread| std::fs::read_to_string(thread.path().join("stat")).is_ok_and(state))
        })
    }

    /// Whether it has said that it is at work: from then on it obeys signals.
    ///
    /// # Errors
    /// Its log cannot be read.
    pub fn is_up(&mut self) -> Result<bool, Failure> {
        Ok(self.lines()?.iter().any(|line| matches!(line.message(), "working" | "listening")))
    }

    /// Every line it has written so far.
    ///
    /// # Errors
    /// Its log cannot be read.
    pub fn lines(&mut self) -> Result<&[Line], Failure> {
        let more = self.reader.read(&self.log)?;
        self.lines.extend(more);
        Ok(&self.lines)
    }

    /// Waits for a line; `None` if it ends or `bound` passes before.
    ///
    /// # Errors
    /// Its log cannot be read.
    pub async fn line<T>(&mut self, bound: Duration, found: impl Fn(&Line) -> Option<T>) -> Result<Option<T>, Failure> {
        let begun = Instant::now();
        loop {
            // Asked before the log is read, so that its last words are not missed.
            let over = self.ended()?.is_some() || begun.elapsed() >= bound;
            if let Some(value) = self.lines()?.iter().find_map(&found) {
                return Ok(Some(value));
            }
            if over {
                return Ok(None);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Whether it was killed by SIGKILL.
pub fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(Signal::KILL.as_raw())
}

/// Whether it was ended by SIGTERM, without a say in it.
pub fn was_terminated(status: ExitStatus) -> bool {
    status.signal() == Some(Signal::TERM.as_raw())
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program, killed by the kernel when this process dies without a chance to do it itself. Where
/// there is no `setpriv`, a campaign that is killed outright leaves its children behind.
fn bound_to_this_process(program: &Path) -> Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if !std::env::split_paths(&path).any(|folder| folder.join("setpriv").is_file()) {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}
