//! The program itself: what it prints, how it ends.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{Raw, bounded};

pub(crate) fn vidserver(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vidserver"));
    // Nothing of the machine's own environment may change what is tested.
    command.args(arguments).env_clear();
    command
}

pub(crate) fn output(command: &mut Command) -> Output {
    command.output().expect("the program starts")
}

/// A process that does not outlive its test, however the test ends.
pub(crate) struct Killed(pub(crate) Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended already, which is what most tests are about.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A served program.
pub(crate) struct Served {
    child: Killed,
    log: Lines<BufReader<ChildStderr>>,
    /// Its data.
    pub(crate) folder: tempfile::TempDir,
}

impl Served {
    /// Starts `serve` on free ports and waits until both listen.
    fn start() -> (Self, String) {
        let (served, api, _) = Self::start_in(tempfile::tempdir().expect("a folder"), &[]);
        (served, api)
    }

    /// Starts `serve` in a folder that may hold data already; returns both addresses.
    pub(crate) fn start_in(folder: tempfile::TempDir, flags: &[&str]) -> (Self, String, String) {
        let mut command = vidserver(&["serve", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]);
        command.args(flags);
        // Longer than any test waits: a drain that is not cut short fails it.
        command.env("VID_SERVER__DRAIN_MS", "600000");
        command.env("VID_MEDIA__TRANSCODER", "simulated").current_dir(folder.path());
        let mut child = Killed(command.stderr(Stdio::piped()).spawn().expect("the program starts"));
        let log = BufReader::new(child.0.stderr.take().expect("piped")).lines();
        let mut served = Self { child, log, folder };
        let api = served.listening("api");
        let metrics = served.listening("metrics");
        (served, api, metrics)
    }

    fn listening(&mut self, what: &str) -> String {
        let line = self.line_with(|line| line["message"] == "listening" && line["what"] == what);
        line["address"].as_str().expect("an address").to_owned()
    }

    fn line_with(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut lines = self.log.by_ref().map(|line| line.expect("text"));
        let parsed = lines.by_ref().map(|line| serde_json::from_str::<Value>(&line).expect("each line is JSON"));
        parsed.into_iter().find(|line| wanted(line)).expect("the line is written")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child.0);
        kill_process(pid, signal).expect("the child is ours");
    }

    pub(crate) async fn end(mut self) -> ExitStatus {
        // The log is read to its end, so that the program never waits for its reader.
        let waiting = tokio::task::spawn_blocking(move || {
            self.log.by_ref().for_each(drop);
            self.child.0.wait().expect("the child is ours")
        });
        bounded(waiting).await.expect("no panic")
    }
}

#[test]
fn the_document_is_printed() {
    let output = output(&mut vidserver(&["openapi"]));
    assert!(output.status.success());
    let printed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(serde_json::to_value(vidserver::document()).expect("JSON"), printed);
}

#[test]
fn a_start_with_bad_settings_names_them_all() {
    let mut command = vidserver(&["serve", "--log-format", "xml"]);
    let output = output(command.env("VID_SERVER__DRAIN_MS", "soon").env("VID_COLOUR", "hunter2"));
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).expect("text");
    for key in ["log.format", "server.drain_ms", "colour"] {
        assert!(text.contains(key), "{text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn the_program_serves_logs_and_ends_on_sigterm() {
    let (mut served, api) = Served::start();
    let mut raw = Raw(tokio::net::TcpStream::connect(&api).await.expect("it listens"));
    raw.send("GET /hunter2 HTTP/1.1\r\nHost: x\r\nX-Request-Id: r-7\r\nConnection: close\r\n\r\n").await;
    assert!(raw.rest().await.starts_with("HTTP/1.1 404 "));
    let line = served.line_with(|line| line["target"] == "vidserver::access");
    assert_eq!((Value::from("none"), Value::from(404)), (line["route"].clone(), line["status"].clone()));
    assert_eq!("r-7", line["request_id"]);
    assert!(!line.to_string().contains("hunter2"), "{line}");
    // Nor what the query of an upload's URL permits.
    let mut raw = Raw(tokio::net::TcpStream::connect(&api).await.expect("it listens"));
    let target = "/api/v1/uploads/tus/upload_01h00000000000000000000000?expires=1&kid=a&signature=hunter2";
    raw.send(&format!("HEAD {target} HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\nConnection: close\r\n\r\n")).await;
    assert!(raw.rest().await.starts_with("HTTP/1.1 403 "));
    let line = served.line_with(|line| line["status"] == 403);
    assert_eq!("/api/v1/uploads/tus/{id}", line["route"]);
    assert!(!line.to_string().contains("hunter2"), "{line}");
    served.signal(Signal::TERM);
    assert!(served.end().await.success());
}

#[tokio::test]
async fn a_second_signal_does_not_wait_for_a_client() {
    let (mut served, api) = Served::start();
    let mut raw = Raw(tokio::net::TcpStream::connect(&api).await.expect("it listens"));
    // More answers than sockets buffer, none of them read: the drain has to wait for this client.
    raw.send(&"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n".repeat(50)).await;
    raw.0.readable().await.expect("an answer begins");
    served.signal(Signal::INT);
    // Two signals of a kind that wait together would count as one.
    served.line_with(|line| line["message"] == "signal received: stopping");
    served.signal(Signal::INT);
    assert!(served.end().await.success());
}
