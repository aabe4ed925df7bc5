//! Running one tool to its end, or ending it: bounded output, a time limit, cancellation, and no
//! process left behind whichever way the call ends.

use std::ffi::OsString;
use std::io;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::media::MediaError;

/// How much of what a tool says on its standard error is kept: the end of it.
const STDERR_TAIL_BYTES: usize = 4096;

/// Starts asked for and not yet made; each waits less than a millisecond.
const PENDING_STARTS: usize = 16;

/// One call of a tool.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    /// Program and arguments; never interpreted by a shell.
    pub(crate) line: Vec<OsString>,
    /// Where it runs.
    pub(crate) folder: &'a Path,
    /// How long it may take.
    pub(crate) limit: Duration,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) cancel: &'a CancellationToken,
}

/// How a tool ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    /// The end of its standard error, at most 4 KiB, other than UTF-8 replaced.
    pub(crate) stderr: String,
}

/// Runs the tool and hands its standard output to `on_output`, piece by piece.
///
/// # Errors
/// [`MediaError::Cancelled`], [`MediaError::TimedOut`]: the tool's whole process group is dead and
/// reaped by then. [`MediaError::Failed`] if it could not be started or watched.
///
/// # Cancel safety
/// Dropping the future kills the process group.
pub(crate) async fn run(call: Call<'_>, on_output: impl FnMut(&[u8]) + Send) -> Result<Finished, MediaError> {
    let Call { line, folder, limit, clock, cancel } = call;
    if cancel.is_cancelled() {
        return Err(MediaError::Cancelled);
    }
    let mut running = start(&line, folder).await.map_err(|error| failed("the tool could not be started", error))?;
    let (stdout, stderr) = running.outputs().map_err(|error| failed("the tool could not be started", error))?;
    let outcome = {
        let work = async { tokio::try_join!(drain(stdout, on_output), tail(stderr), running.wait()) };
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(MediaError::Cancelled),
            () = clock.sleep(limit) => Err(MediaError::TimedOut { limit }),
            ended = work => ended.map_err(|error| failed("the tool could not be watched", error)),
        }
    };
    match outcome {
        // Cancelled as it ended: the caller asked for no result any more.
        Ok(_) if cancel.is_cancelled() => Err(MediaError::Cancelled),
        Ok(((), stderr, status)) => Ok(Finished { status, stderr }),
        Err(error) => {
            running.kill_group();
            // Nothing outlives SIGKILL for long; the caller may rely on the folder being still.
            let _ = running.wait().await;
            Err(error)
        }
    }
}

/// Reads to the end and keeps nothing.
async fn drain(mut stdout: ChildStdout, mut on_output: impl FnMut(&[u8])) -> io::Result<()> {
    let mut piece = [0; 4096];
    loop {
        match stdout.read(&mut piece).await? {
            0 => return Ok(()),
            read => on_output(&piece[..read]),
        }
    }
}

/// Reads to the end and keeps the last 4 KiB.
async fn tail(mut stderr: impl AsyncRead + Unpin) -> io::Result<String> {
    let mut kept: Vec<u8> = Vec::with_capacity(2 * STDERR_TAIL_BYTES);
    let mut piece = [0; STDERR_TAIL_BYTES];
    loop {
        let read = stderr.read(&mut piece).await?;
        if read == 0 {
            return Ok(String::from_utf8_lossy(&kept).into_owned());
        }
        kept.extend_from_slice(&piece[..read]);
        kept.drain(..kept.len().saturating_sub(STDERR_TAIL_BYTES));
    }
}

/// A tool that runs, as the leader of its own process group. Dropping it kills the group.
#[derive(Debug)]
struct Running {
    child: Child,
    /// The group, until its leader is reaped: from then on the number may be another's.
    group: Option<Pid>,
}

impl Running {
    fn new(child: Child) -> Self {
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Self { child, group }
    }

    fn outputs(&mut self) -> io::Result<(ChildStdout, ChildStderr)> {
        let outputs = self.child.stdout.take().zip(self.child.stderr.take());
        outputs.ok_or_else(|| io::Error::other("the tool has no output"))
    }

    async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await?;
        self.group = None;
        Ok(status)
    }

    fn kill_group(&mut self) {
        if let Some(group) = self.group {
            // It may have ended in this very moment; then there is nothing to kill.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The runtime reaps the child afterwards: it was made with `kill_on_drop`.
        self.kill_group();
    }
}

struct Order {
    command: Command,
    runtime: Handle,
    answer: oneshot::Sender<io::Result<Running>>,
}

async fn start(line: &[OsString], folder: &Path) -> io::Result<Running> {
    let (program, arguments) = line.split_first().ok_or_else(|| io::Error::other("an empty command line"))?;
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).env_clear();
    // PATH alone is inherited: the programs of the sandbox are looked up in it.
    command.env("PATH", std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.process_group(0).kill_on_drop(true);
    let (answer, started) = oneshot::channel();
    let order = Order { command, runtime: Handle::current(), answer };
    starter()?.send(order).await.map_err(|_| io::Error::other("the starting thread is gone"))?;
    started.await.map_err(|_| io::Error::other("the starting thread is gone"))?
}

/// The one thread of this process that starts tools.
///
/// The signal of parent death follows the *thread* that forked, not the process: a worker thread of
/// the runtime, which may end at any time, would take its children with it. This one never ends.
fn starter() -> io::Result<mpsc::Sender<Order>> {
    static STARTER: Mutex<Option<mpsc::Sender<Order>>> = Mutex::new(None);
    let mut starter = STARTER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(sender) = &*starter {
        return Ok(sender.clone());
    }
    let (sender, orders) = mpsc::channel(PENDING_STARTS);
    std::thread::Builder::new().name("media-starter".to_owned()).spawn(move || start_all(orders))?;
    *starter = Some(sender.clone());
    Ok(sender)
}

fn start_all(mut orders: mpsc::Receiver<Order>) {
    while let Some(Order { mut command, runtime, answer }) = orders.blocking_recv() {
        let _entered = runtime.enter();
        // A runtime that is shutting down may panic here; this thread must not end with it.
        let started = std::panic::catch_unwind(AssertUnwindSafe(|| command.spawn().map(Running::new)));
        let started = started.unwrap_or_else(|_| Err(io::Error::other("the runtime is shutting down")));
        // Nobody waits any more: the answer comes back and is dropped, which kills the tool.
        drop(answer.send(started));
    }
}

fn failed(message: &str, error: io::Error) -> MediaError {
    MediaError::Failed { message: message.to_owned(), source: Some(Box::new(error)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ManualClock, SystemClock};

    fn words(line: &[&str]) -> Vec<OsString> {
        line.iter().map(OsString::from).collect()
    }

    async fn call(line: &[&str], clock: &dyn Clock, cancel: &CancellationToken) -> Result<Finished, MediaError> {
        let limit = Duration::from_secs(60);
        run(Call { line: words(line), folder: Path::new("/"), limit, clock, cancel }, |_| {}).await
    }

    #[tokio::test]
    async fn only_the_end_of_endless_complaints_is_kept() {
        let script = "i=0; while [ $i -lt 3000 ]; do echo \"complaint $i\" >&2; i=$((i+1)); done";
        let finished = call(&["sh", "-c", script], &SystemClock::new(), &CancellationToken::new()).await;
        let stderr = finished.expect("the shell runs").stderr;
        assert_eq!(STDERR_TAIL_BYTES, stderr.len());
        assert!(stderr.ends_with("complaint 2999\n"));
    }

    #[tokio::test]
    async fn nothing_of_the_environment_is_inherited_but_the_path() {
        let line = words(&["env"]);
        let (clock, cancel) = (SystemClock::new(), CancellationToken::new());
        let mut output = Vec::new();
        let call =
            Call { line, folder: Path::new("/"), limit: Duration::from_secs(60), clock: &clock, cancel: &cancel };
        run(call, |piece| output.extend_from_slice(piece)).await.expect("env runs");
        let names: Vec<_> = output.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
        assert_eq!(1, names.len());
        assert!(names[0].starts_with(b"PATH="));
    }

    #[tokio::test]
    async fn a_tool_is_killed_when_its_time_is_up() {
        let clock = ManualClock::default();
        let cancel = CancellationToken::new();
        let mut running = Box::pin(call(&["sleep", "600"], &clock, &cancel));
        assert!(futures_util::poll!(&mut running).is_pending());
        clock.advance(Duration::from_secs(61));
        // The clock is read when the tool has started, so it is moved until it has.
        let ended = loop {
            tokio::select! {
                ended = &mut running => break ended,
                () = tokio::task::yield_now() => clock.advance(Duration::from_secs(61)),
            }
        };
        assert!(matches!(ended, Err(MediaError::TimedOut { limit }) if limit == Duration::from_secs(60)));
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_a_failure() {
        let ended = call(&["/no/such/program"], &SystemClock::new(), &CancellationToken::new()).await;
        assert!(matches!(ended, Err(MediaError::Failed { .. })));
    }

    #[tokio::test]
    async fn a_cancelled_call_starts_nothing() {
        let cancel = CancellationToken::new();
        cancel.cancel();
        let ended = call(&["/no/such/program"], &SystemClock::new(), &cancel).await;
        assert!(matches!(ended, Err(MediaError::Cancelled)));
    }
}
