//! The figures a release `vidserver` is held to, each measured on a process of its own over loopback:
//! time to listen, memory at rest, memory while a large file goes in and out, and the wait of a cached
//! read while many people sign up.
//!
//! Prints a line for each with its bound. Everything is bounded in time, in connections and in bytes;
//! the files are made in a temporary folder that goes away at the end.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use benches::child::ServerProcess;
use benches::client::Client;
use benches::report::{Bound, Figure, median};
use benches::{Failure, catalog, child};
use clap::Parser;
use serde_json::{Value, json};
use tokio::task::JoinSet;

const MIB: f64 = (1 << 20) as f64;

/// A real video; what follows it in the file that is sent is one `free` box of zeros.
const VIDEO: &[u8] = include_bytes!("../../../fixtures/landscape.mp4");

const POPULAR: &str = "/api/v1/videos/popular";

/// Starts measured, the first of them on an empty folder.
const STARTS: usize = 5;

/// How long a server is left alone before its memory is read.
const REST: Duration = Duration::from_secs(3);

const SIGN_UPS: usize = 200;

/// How often one of them is sent, when the server says that it is busy.
const SIGN_UP_TRIES: usize = 60;

/// Videos in the catalog that the cached read is about.
const VIDEOS: usize = 2000;

/// Cached reads while nothing else happens.
const IDLE_READS: usize = 500;

/// Between two cached reads of the one reader.
const READ_PAUSE: Duration = Duration::from_millis(2);

/// The longest wait for a video to be processed.
const PROCESSING_PATIENCE: Duration = Duration::from_secs(300);

/// The figures a release `vidserver` is held to
#[derive(Debug, Parser)]
struct Options {
    /// Size of the file that goes in and out, in MiB
    #[arg(long, default_value_t = 2048, value_parser = clap::value_parser!(u32).range(1..=4000))]
    file_mib: u32,
    /// The vidserver program; by default the one that was built beside this one
    #[arg(long)]
    server: Option<PathBuf>,
    /// Where the temporary folder is made; three times the file must fit. Default: the system's choice
    #[arg(long)]
    folder: Option<PathBuf>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match measure(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Nothing is left to tell if standard error is closed.
            let _ = writeln!(std::io::stderr(), "figures: {error}");
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
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let bench = Bench { program, folder: folder.path().to_owned(), file_mib: options.file_mib };
    runtime.block_on(async {
        let mut passed = bench.start_and_rest().await?;
        passed &= bench.sign_ups().await?;
        passed &= bench.large_file().await?;
        Ok(passed)
    })
}

struct Bench {
    program: PathBuf,
    folder: PathBuf,
    file_mib: u32,
}

impl Bench {
    async fn serve(&self, name: &str, config: Option<&str>) -> Result<ServerProcess, Failure> {
        let file = self.folder.join("server.toml");
        if let Some(config) = config {
            std::fs::write(&file, config)?;
        }
        let log = self.folder.join(format!("{name}.log"));
        ServerProcess::vidserver(&self.program, &self.folder.join(name), config.map(|_| file.as_path()), &log).await
    }

    /// With default settings throughout.
    async fn start_and_rest(&self) -> Result<bool, Failure> {
        let mut slowest = Duration::ZERO;
        for number in 1..STARTS {
            let start = self.serve("rest", None).await?.start_time;
            println!("      start {number}: {:.3} s", start.as_secs_f64());
            slowest = slowest.max(start);
        }
        let plain = self.serve("plain", Some(GENEROUS)).await?.start_time;
        println!("      without looking for ffmpeg: {:.3} s", plain.as_secs_f64());
        let server = self.serve("rest", None).await?;
        println!("      start {STARTS}: {:.3} s", server.start_time.as_secs_f64());
        let value = slowest.max(server.start_time).as_secs_f64();
        let name = format!("slowest of {STARTS} starts, to the first answer");
        let started = say(&Figure { name, value, bound: Bound::Below(0.5), unit: "s" });
        tokio::time::sleep(REST).await;
        let value = server.resident()? as f64 / MIB;
        let name = "resident memory at rest".to_owned();
        Ok(say(&Figure { name, value, bound: Bound::Below(32.0), unit: "MiB" }) && started)
    }

    async fn sign_ups(&self) -> Result<bool, Failure> {
        let seeded = catalog::seed(&self.folder.join("people"), VIDEOS).await?;
        seeded.platform.shutdown().await;
        drop(seeded);
        let server = self.serve("people", Some(GENEROUS)).await?;
        let idle = median(read_until(server.address, |reads| reads >= IDLE_READS).await?);
        let over = Arc::new(AtomicBool::new(false));
        let reader = {
            let (over, address) = (Arc::clone(&over), server.address);
            // A thread of its own: the two hundred answers are handled on another one.
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(read_until(address, |_| over.load(Ordering::Acquire)))
            })
        };
        let begun = Instant::now();
        let signed_up = sign_up_all(server.address).await;
        let took = begun.elapsed();
        over.store(true, Ordering::Release);
        let waits = reader.join().map_err(|_| "the reader panicked")??;
        signed_up?;
        let (reads, busy) = (waits.len(), median(waits));
        println!("      {SIGN_UPS} sign-ups in {:.1} s; {reads} cached reads meanwhile", took.as_secs_f64());
        println!("      median of a cached read: {:.0} us idle, {:.0} us busy", idle * 1e6, busy * 1e6);
        let name = format!("median of a cached read during {SIGN_UPS} sign-ups, beside idle");
        Ok(say(&Figure { name, value: busy / idle, bound: Bound::AtMost(3.0), unit: "times" }))
    }

    async fn large_file(&self) -> Result<bool, Failure> {
        let server = self.serve("large", Some(GENEROUS)).await?;
        let mut client = Client::connect(server.address).await?;
        let owner = Owner::sign_up(&mut client).await?;
        let size = u64::from(self.file_mib) << 20;
        let (upload, url) = owner.open_upload(&mut client, size).await?;
        let head = padded_head(size);
        let before = forget(&server)?;
        let begun = Instant::now();
        let put = client.put_padded(&url, &head, size).await?;
        expect(put.status == 200, || format!("the upload was answered with {}", put.status))?;
        let uploaded = self.growth(&server, before, "upload", begun)?;
        let before = forget(&server)?;
        let url = owner.process(&mut client, &upload).await?;
        println!("      while it was verified and processed: {:+.1} MiB", grown(&server, before)?);
        let before = forget(&server)?;
        let begun = Instant::now();
        let got = client.exchange(&Client::get_head(&url)).await?;
        expect(got.status == 200 && got.length == size, || format!("the download was answered with {got:?}"))?;
        Ok(self.growth(&server, before, "download", begun)? && uploaded)
    }

    fn growth(&self, server: &ServerProcess, before: u64, what: &str, begun: Instant) -> Result<bool, Failure> {
        let seconds = begun.elapsed().as_secs_f64();
        println!("      {what}: {:.0} MiB/s", f64::from(self.file_mib) / seconds);
        let name = format!("most resident memory during the {what} of {} MiB, above that before", self.file_mib);
        Ok(say(&Figure { name, value: grown(server, before)?, bound: Bound::Below(32.0), unit: "MiB" }))
    }
}

/// What is resident now, from where the peak is counted.
fn forget(server: &ServerProcess) -> Result<u64, Failure> {
    server.forget_peak()?;
    Ok(server.resident()?)
}

fn grown(server: &ServerProcess, before: u64) -> Result<f64, Failure> {
    Ok((server.peak_resident()? as f64 - before as f64) / MIB)
}

fn say(figure: &Figure) -> bool {
    println!("{figure}");
    figure.passes()
}

fn expect(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(otherwise().into()) }
}

/// The video and the head of a `free` box that fills the file (ISO/IEC 14496-12, 8.1.2).
fn padded_head(size: u64) -> Vec<u8> {
    let filling = u32::try_from(size - VIDEO.len() as u64).expect("the option bounds the size below 4 GiB");
    [VIDEO, &filling.to_be_bytes(), b"free"].concat()
}

/// Seconds of each cached read, one after the other on one connection.
async fn read_until(address: SocketAddr, over: impl Fn(usize) -> bool) -> Result<Vec<f64>, Failure> {
    let mut client = Client::connect(address).await?;
    let request = Client::get_head(POPULAR);
    let mut waits = Vec::new();
    while !over(waits.len()) {
        let begun = Instant::now();
        let answer = client.exchange(&request).await?;
        waits.push(begun.elapsed().as_secs_f64());
        expect(answer.status == 200, || format!("a cached read was answered with {}", answer.status))?;
        tokio::time::sleep(READ_PAUSE).await;
    }
    Ok(waits)
}

async fn sign_up_all(address: SocketAddr) -> Result<(), Failure> {
    let mut running = JoinSet::new();
    for number in 0..SIGN_UPS {
        running.spawn(async move {
            let mut client = Client::connect(address).await?;
            sign_up(&mut client, &format!("person{number}")).await
        });
    }
    while let Some(signed_up) = running.join_next().await {
        signed_up??;
    }
    Ok(())
}

async fn sign_up(client: &mut Client, handle: &str) -> Result<Value, Failure> {
    let person = json!({
        "email": format!("{handle}@example.org"), "handle": handle, "password": "long enough to hash",
    });
    for _ in 0..SIGN_UP_TRIES {
        let (answer, body) = client.json("POST", "/api/v1/auth/register", None, Some(&person)).await?;
        match (answer.status, answer.retry_after_s) {
            (201, _) => return Ok(body),
            // Passwords wait to be hashed in a bounded queue: who finds it full comes back.
            (503, Some(wait)) => tokio::time::sleep(Duration::from_secs(wait.into())).await,
            (status, _) => return Err(format!("a sign-up was answered with {status}: {body}").into()),
        }
    }
    Err("a sign-up was sent away too often".into())
}

/// Somebody with a token and a video.
struct Owner {
    token: String,
    video: String,
}

impl Owner {
    async fn sign_up(client: &mut Client) -> Result<Self, Failure> {
        let signed_in = sign_up(client, "owner").await?;
        let mut owner = Self { token: text(&signed_in, "/access_token")?, video: String::new() };
        let draft = json!({"title": "A large file", "visibility": "public"});
        let video = owner.ask(client, "POST", "/api/v1/videos", Some(&draft)).await?;
        owner.video = format!("/api/v1/videos/{}", text(&video, "/id")?);
        Ok(owner)
    }

    /// The upload's path, and the URL for its bytes.
    async fn open_upload(&self, client: &mut Client, size: u64) -> Result<(String, String), Failure> {
        let path = format!("{}/uploads", self.video);
        let upload = self.ask(client, "POST", &path, Some(&json!({"size_bytes": size}))).await?;
        Ok((format!("/api/v1/uploads/{}", text(&upload, "/id")?), text(&upload, "/upload_url")?))
    }

    /// Completes the upload and waits until the video is playable; the URL it is played from.
    async fn process(&self, client: &mut Client, upload: &str) -> Result<String, Failure> {
        self.ask(client, "POST", &format!("{upload}/complete"), None).await?;
        let begun = Instant::now();
        while begun.elapsed() < PROCESSING_PATIENCE {
            let status = self.ask(client, "GET", &format!("{}/status", self.video), None).await?;
            match status["status"].as_str() {
                Some("ready") => {
                    let video = self.ask(client, "GET", &self.video, None).await?;
                    return text(&video, "/playback/url");
                }
                Some("failed") => return Err(format!("processing failed: {status}").into()),
                _ => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
        let upload = self.ask(client, "GET", upload, None).await?;
        Err(format!("the video is not ready in time: {upload}").into())
    }

    async fn ask(&self, client: &mut Client, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let (answer, body) = client.json(method, path, Some(&self.token), body).await?;
        let status = answer.status;
        expect((200..300).contains(&status), || format!("{method} {path} was answered with {status}: {body}"))?;
        Ok(body)
    }
}

fn text(value: &Value, pointer: &str) -> Result<String, Failure> {
    let found = value.pointer(pointer).and_then(Value::as_str);
    Ok(found.ok_or_else(|| format!("no {pointer} in {value}"))?.to_owned())
}

/// Limits in force that this load does not meet, and no ffmpeg: the original itself is played.
const GENEROUS: &str = r#"
[media]
transcoder = "simulated"

[rate_limits.policies."read.address"]
limit = 4000000000
window_s = 3600
burst = 100000000

[rate_limits.policies."read.user"]
limit = 4000000000
window_s = 3600
burst = 100000000

[rate_limits.policies."register.address"]
limit = 100000
window_s = 3600
burst = 10000
"#;
