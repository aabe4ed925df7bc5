//! What it costs to take a large file: one `PUT`, and one `PATCH` of the resumable protocol, beside copying the same file
//! on the same disk with hashing and fsync; and the memory of the server meanwhile.
//!
//! Rounds take turns, so that what the neighbours do hits all three alike. What is sent is read from a file as the copy
//! reads it. Everything is made in a temporary folder that goes away at the end.

use std::fs::File;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use benches::child::ServerProcess;
use benches::client::Client;
use benches::report::{Bound, Figure, median};
use benches::{Failure, child};
use clap::Parser;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const MIB: f64 = (1 << 20) as f64;

/// Bytes that are read, hashed, written or sent at once.
const PIECE: usize = 256 << 10;

/// A real video; what follows it is one `free` box.
const VIDEO: &[u8] = include_bytes!("../../../fixtures/landscape.mp4");

/// Uploads at once, for the memory they take together.
const PARALLEL: usize = 100;

/// Bytes of each of them.
const PARALLEL_BYTES: u64 = 8 << 20;

/// The share of a copy's speed that an upload is to have.
const TARGET: f64 = 0.70;

/// The longest wait for an upload to be checked.
const PATIENCE: Duration = Duration::from_secs(300);

/// What an upload costs beside a copy
#[derive(Debug, Parser)]
struct Options {
    /// Size of the file, in MiB; its bytes are sent three times in each round
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=16_000))]
    file_mib: u32,
    /// Rounds
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=50))]
    rounds: u16,
    /// The vidserver program; by default the one that was built beside this one
    #[arg(long)]
    server: Option<PathBuf>,
    /// Where the temporary folder is made; the file must fit once for each round and three times more. Default: the system's choice
    #[arg(long)]
    folder: Option<PathBuf>,
}

fn main() -> ExitCode {
    match measure(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Nothing is left to tell if standard error is closed.
            let _ = writeln!(std::io::stderr(), "uploads: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every figure keeps its bound.
fn measure(options: &Options) -> Result<bool, Failure> {
    let program = options.server.clone().map_or_else(child::vidserver_beside, Ok)?;
    let folder = match &options.folder {
        Some(folder) => tempfile::tempdir_in(folder)?,
        None => tempfile::tempdir()?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let passed = rounds(options, &program, folder.path()).await?;
        Ok(in_parallel(&program, folder.path()).await? && passed)
    })
}

/// The three ways in turn.
async fn rounds(options: &Options, program: &Path, folder: &Path) -> Result<bool, Failure> {
    let size = u64::from(options.file_mib) << 20;
    let file = folder.join("file");
    make_file(&file, size)?;
    let (server, mut client) = serve(program, folder, "rounds").await?;
    let user = User::sign_up(&mut client).await?;
    let (mut put, mut patch, mut grown) = (Vec::new(), Vec::new(), 0.0_f64);
    for round in 1..=options.rounds {
        let copy = copy(&file, &folder.join("copy"))?;
        server.forget_peak()?;
        let before = server.resident()?;
        let (by_put, by_patch) = (user.put(&server, &file, size).await?, user.patch(&server, &file, size).await?);
        grown = grown.max((server.peak_resident()? as f64 - before as f64) / MIB);
        let speed = |seconds: f64| f64::from(options.file_mib) / seconds;
        println!(
            "      round {round}: copy {:.0} MiB/s, PUT {:.0} MiB/s, PATCH {:.0} MiB/s",
            speed(copy),
            speed(by_put),
            speed(by_patch)
        );
        put.push(copy / by_put);
        patch.push(copy / by_patch);
    }
    let mib = options.file_mib;
    let ratio = |name: &str, values| {
        let name = format!("{name} of {mib} MiB beside a copy with hash and fsync, median of rounds");
        say(&Figure { name, value: median(values), bound: Bound::AtLeast(TARGET), unit: "times its speed" })
    };
    let (put, patch) = (ratio("one PUT", put), ratio("one PATCH", patch));
    let name = format!("most resident memory during a PUT and a PATCH of {mib} MiB, above that before");
    Ok(say(&Figure { name, value: grown, bound: Bound::Below(32.0), unit: "MiB" }) && put && patch)
}

async fn in_parallel(program: &Path, folder: &Path) -> Result<bool, Failure> {
    let file = folder.join("small");
    make_file(&file, PARALLEL_BYTES)?;
    let (server, mut client) = serve(program, folder, "parallel").await?;
    let user = User::sign_up(&mut client).await?;
    let mut opened = Vec::new();
    for _ in 0..PARALLEL {
        opened.push(user.open_tus(server.address, PARALLEL_BYTES).await?);
    }
    server.forget_peak()?;
    let (before, mut running) = (server.resident()?, JoinSet::new());
    for upload in opened {
        let (head, file, address) = (user.patch_head(&upload, PARALLEL_BYTES), file.clone(), server.address);
        running.spawn(async move { send(address, &head, &file).await });
    }
    while let Some(sent) = running.join_next().await {
        expect_status(sent??, 204)?;
    }
    let value = (server.peak_resident()? as f64 - before as f64) / MIB;
    let name = format!("most resident memory during {PARALLEL} uploads of 8 MiB at once, above that before");
    Ok(say(&Figure { name, value, bound: Bound::Below(128.0), unit: "MiB" }))
}

async fn serve(program: &Path, folder: &Path, name: &str) -> Result<(ServerProcess, Client), Failure> {
    let config = folder.join("server.toml");
    std::fs::write(&config, CONFIG)?;
    let log = folder.join(format!("{name}.log"));
    let server = ServerProcess::vidserver(program, &folder.join(name), Some(&config), &log).await?;
    let client = Client::connect(server.address).await?;
    Ok((server, client))
}

/// A video and behind it bytes of no pattern that a disk could make small.
fn make_file(path: &Path, size: u64) -> Result<(), Failure> {
    let filling = size - VIDEO.len() as u64;
    let mut file = File::create(path)?;
    file.write_all(VIDEO)?;
    // A box of more than 4 GiB says so (ISO/IEC 14496-12, 4.2).
    file.write_all(&1_u32.to_be_bytes())?;
    file.write_all(b"free")?;
    file.write_all(&filling.to_be_bytes())?;
    let (mut rng, mut piece, mut left) = (fastrand::Rng::with_seed(3), vec![0; PIECE], filling - 16);
    while left > 0 {
        let part = left.min(PIECE as u64) as usize;
        rng.fill(&mut piece[..part]);
        file.write_all(&piece[..part])?;
        left -= part as u64;
    }
    Ok(file.sync_all()?)
}

/// Copies with hashing on the way, as a program would that has nothing else to do; seconds.
fn copy(from: &Path, to: &Path) -> Result<f64, Failure> {
    let begun = Instant::now();
    let (mut from, mut copied, mut hash) = (File::open(from)?, File::create(to)?, Sha256::new());
    let mut piece = vec![0; PIECE];
    loop {
        let read = from.read(&mut piece)?;
        if read == 0 {
            break;
        }
        copied.write_all(&piece[..read])?;
        hash.update(&piece[..read]);
    }
    copied.sync_all()?;
    std::hint::black_box(hash.finalize());
    let seconds = begun.elapsed().as_secs_f64();
    std::fs::remove_file(to)?;
    Ok(seconds)
}

/// Sends a head and the bytes of a file; the status of the answer.
async fn send(address: SocketAddr, head: &str, file: &Path) -> Result<u16, Failure> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(head.as_bytes()).await?;
    let (mut file, mut piece) = (File::open(file)?, vec![0; PIECE]);
    loop {
        // From the page cache: what a client reads is none of the server's time.
        let read = file.read(&mut piece)?;
        if read == 0 {
            break;
        }
        stream.write_all(&piece[..read]).await?;
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let status = answer.get(9..12).and_then(|status| std::str::from_utf8(status).ok()?.parse().ok());
    Ok(status.ok_or("an answer that is none")?)
}

/// Somebody who uploads.
struct User {
    token: String,
}

impl User {
    async fn sign_up(client: &mut Client) -> Result<Self, Failure> {
        let person = json!({"email": "u@example.org", "handle": "uploader", "password": "long enough to hash"});
        let (_, body) = client.json("POST", "/api/v1/auth/register", None, Some(&person)).await?;
        Ok(Self { token: text(&body, "access_token")? })
    }

    /// Seconds of a `PUT` to a signed URL, from its first byte to its answer.
    async fn put(&self, server: &ServerProcess, file: &Path, size: u64) -> Result<f64, Failure> {
        let mut client = Client::connect(server.address).await?;
        let draft = json!({"title": "A large file"});
        let video = text(&self.ask(&mut client, "POST", "/api/v1/videos", Some(&draft)).await?, "id")?;
        let path = format!("/api/v1/videos/{video}/uploads");
        let upload = self.ask(&mut client, "POST", &path, Some(&json!({"size_bytes": size}))).await?;
        let head = format!(
            "PUT {} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/octet-stream\r\n\
             content-length: {size}\r\n\r\n",
            text(&upload, "upload_url")?
        );
        let begun = Instant::now();
        expect_status(send(server.address, &head, file).await?, 200)?;
        let seconds = begun.elapsed().as_secs_f64();
        let path = format!("/api/v1/uploads/{}", text(&upload, "id")?);
        self.ask(&mut client, "DELETE", &path, None).await?;
        Ok(seconds)
    }

    /// Seconds of a `PATCH` that brings all bytes.
    async fn patch(&self, server: &ServerProcess, file: &Path, size: u64) -> Result<f64, Failure> {
        let upload = self.open_tus(server.address, size).await?;
        let head = self.patch_head(&upload, size);
        let begun = Instant::now();
        expect_status(send(server.address, &head, file).await?, 204)?;
        let seconds = begun.elapsed().as_secs_f64();
        self.until_checked(server, &upload).await?;
        Ok(seconds)
    }

    /// Opens a resumable upload of a draft of its own; its id.
    async fn open_tus(&self, address: SocketAddr, size: u64) -> Result<String, Failure> {
        let mut stream = TcpStream::connect(address).await?;
        let head = format!(
            "POST /api/v1/uploads/tus HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer {}\r\n\
             tus-resumable: 1.0.0\r\nupload-length: {size}\r\ncontent-length: 0\r\n\r\n",
            self.token
        );
        stream.write_all(head.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
        text(&serde_json::from_str(body)?, "id")
    }

    fn patch_head(&self, upload: &str, size: u64) -> String {
        format!(
            "PATCH /api/v1/uploads/tus/{upload} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             authorization: Bearer {}\r\ntus-resumable: 1.0.0\r\ncontent-type: application/offset+octet-stream\r\n\
             upload-offset: 0\r\ncontent-length: {size}\r\n\r\n",
            self.token
        )
    }

    /// Waits until the job that checks it is through, which is not measured.
    async fn until_checked(&self, server: &ServerProcess, upload: &str) -> Result<(), Failure> {
        let (mut client, begun) = (Client::connect(server.address).await?, Instant::now());
        while begun.elapsed() < PATIENCE {
            let found = self.ask(&mut client, "GET", &format!("/api/v1/uploads/{upload}"), None).await?;
            match found["status"].as_str() {
                Some("complete") => return Ok(()),
                Some("verifying") => tokio::time::sleep(Duration::from_millis(100)).await,
                _ => return Err(format!("the upload came to nothing: {found}").into()),
            }
        }
        Err("the upload is not checked in time".into())
    }

    async fn ask(&self, client: &mut Client, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let (answer, body) = client.json(method, path, Some(&self.token), body).await?;
        match answer.status {
            200..300 => Ok(body),
            status => Err(format!("{method} {path} was answered with {status}: {body}").into()),
        }
    }
}

fn say(figure: &Figure) -> bool {
    println!("{figure}");
    figure.passes()
}

fn expect_status(found: u16, expected: u16) -> Result<(), Failure> {
    if found == expected { Ok(()) } else { Err(format!("an upload was answered with {found}").into()) }
}

fn text(value: &Value, name: &str) -> Result<String, Failure> {
    Ok(value[name].as_str().ok_or_else(|| format!("no {name} in {value}"))?.to_owned())
}

/// No ffmpeg, no limit that this load meets, and room for all rounds.
const CONFIG: &str = r#"
[media]
transcoder = "simulated"

[uploads]
quota_bytes = 1000000000000

[rate_limits.policies]
"upload.user" = "unlimited"
"upload.address" = "unlimited"
"append.user" = "unlimited"
"append.address" = "unlimited"
"write.user" = "unlimited"
"write.address" = "unlimited"
"#;
