//! The programs that run the clients, beside a server and an account of the test's own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use vidcore::storage::objects::sha256;
use vidcore::testkit::require;

use crate::process::Program;
use crate::resumable::account::Account;
use crate::resumable::cutting::Cutting;
use crate::resumable::file::video;

/// Whose client it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Client {
    /// tus-js-client under Node.
    Js,
    /// tuspy.
    Py,
}

/// How a client is ended in the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BreakOff {
    /// As a page does that is left.
    Abort,
    /// As a machine does that loses its power.
    Kill,
}

impl Client {
    /// What runs it, and which of the scripts.
    fn program(self) -> (PathBuf, &'static str) {
        match self {
            Self::Js => (on_path("node").unwrap_or_default(), "client.mjs"),
            Self::Py => (installed().join("venv/bin/python"), "client.py"),
        }
    }

    /// Whether it can be run here.
    fn is_there(self) -> bool {
        match self {
            Self::Js => {
                let package = installed().join("node_modules/tus-js-client/package.json");
                require("node and tus-js-client (scripts/tus-clients)", on_path("node").is_some() && package.is_file())
            }
            Self::Py => require("tuspy (scripts/tus-clients)", self.program().0.is_file()),
        }
    }
}

/// Where `scripts/tus-clients` installs.
fn installed() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("tus-clients")
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|program| program.is_file())
}

/// A server, an account, and a file to be uploaded.
pub(crate) struct Site {
    client: Client,
    pub(crate) server: Program,
    pub(crate) account: Account,
    bytes: Vec<u8>,
    folder: tempfile::TempDir,
}

impl Site {
    /// A server for `client` and a file of `size` bytes; `None` where the client is missing.
    pub(crate) async fn start(client: Client, size: usize) -> Option<Self> {
        if !client.is_there() {
            return None;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (server, bytes) = (Program::start(&folder.path().join("data"), "simulated", None), video(size, 7));
        std::fs::write(folder.path().join("a.mp4"), &bytes).expect("there is room");
        let account = Account::sign_up(server.address).await;
        Some(Self { client, server, account, bytes, folder })
    }

    /// Runs the client to the server as it is reached at `address`; what it told.
    pub(crate) async fn run(&self, address: SocketAddr, settings: &Value) -> Value {
        ended_well(self.begin(address, settings)).await
    }

    /// Starts the client.
    fn begin(&self, address: SocketAddr, settings: &Value) -> Child {
        let mut told = settings.clone();
        told["endpoint"] = json!(format!("http://{address}/api/v1/uploads/tus"));
        told["token"] = json!(self.account.token);
        told["file"] = json!(self.folder.path().join("a.mp4"));
        told["store"] = json!(self.folder.path().join("urls.json"));
        let (program, script) = self.client.program();
        let mut command = Command::new(program);
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(script)).arg(told.to_string());
        command.env_clear().env("TUS_CLIENTS", installed()).env("HOME", self.folder.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command.spawn().expect("it starts")
    }

    /// Runs the client and ends it while so many of its connections stall.
    pub(crate) async fn break_off(&self, network: &Cutting, settings: &Value, connections: u32, how: BreakOff) {
        let mut client = self.begin(network.address, settings);
        network.until_stalled(connections).await;
        match how {
            BreakOff::Kill => client.kill().await.expect("it runs"),
            BreakOff::Abort => {
                let mut input = client.stdin.take().expect("it is a pipe");
                input.write_all(b"abort\n").await.expect("it listens");
                ended_well(client).await;
            }
        }
    }

    /// The file is there byte for byte, checked, and played; the video.
    pub(crate) async fn is_whole(&self, told: &Value, title: &str) -> Value {
        let url = told["url"].as_str().expect("a URL");
        let upload = url.rsplit('/').next().expect("an id");
        let (upload, video) = self.account.until_ready(self.server.address, upload).await;
        assert_eq!(self.bytes.len() as u64, upload["size_bytes"], "{upload}");
        if upload["kind"] == "resumable" {
            assert_eq!(hex::encode(sha256(&self.bytes)), upload["sha256"], "{upload}");
        }
        assert!(self.bytes == self.account.play(self.server.address, &video).await, "what is played is the file");
        assert_eq!(title, video["title"]);
        video
    }
}

/// What a client told at its end.
async fn ended_well(client: Child) -> Value {
    let output = client.wait_with_output().await.expect("it is our child");
    let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out} {errors}");
    serde_json::from_str(&out).expect("json")
}
