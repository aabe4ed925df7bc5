//! What it costs to send what is played, beside nginx sending the same files: whole segments, and random parts of a large
//! file as players seek. wrk asks both in turn, so that what the neighbours do hits both alike.
//!
//! nginx and wrk have to be installed. This nginx is a private one: its own configuration, folder, port and process.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use benches::child::ServerProcess;
use benches::client::Client;
use benches::report::{Bound, Figure, median};
use benches::{Failure, child};
use clap::Parser;
use serde_json::{Value, json};

/// A real video; what follows it in a file is one `free` box.
const VIDEO: &[u8] = include_bytes!("../../../fixtures/landscape.mp4");

/// A segment of four seconds at some 2 Mbit/s.
const SEGMENT: u64 = 1 << 20;

/// A file that is sought in, and how much a player asks for at once.
const LARGE: u64 = 256 << 20;
const SEEK: u64 = 256 << 10;

/// Requests under way at once.
const CONNECTIONS: &str = "16";

/// No ffmpeg and no limit: the file itself is what plays.
const CONFIG: &str = r#"
[media]
transcoder = "simulated"

[rate_limits.policies]
"read.user" = "unlimited"
"read.address" = "unlimited"
"#;

/// What delivery costs beside nginx
#[derive(Debug, Parser)]
struct Options {
    /// Rounds of each kind
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=50))]
    rounds: u16,
    /// Seconds of one measurement
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=60))]
    seconds: u16,
    /// The vidserver program; by default the one that was built beside this one
    #[arg(long)]
    server: Option<PathBuf>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(measure(&options))) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("delivery: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every figure keeps its bound.
async fn measure(options: &Options) -> Result<bool, Failure> {
    let program = options.server.clone().map_or_else(child::vidserver_beside, Ok)?;
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let (config, log) = (folder.join("server.toml"), folder.join("server.log"));
    fs::write(&config, CONFIG)?;
    let server = ServerProcess::vidserver(&program, &folder.join("data"), Some(&config), &log).await?;
    let nginx = Nginx::start(folder)?;
    let mut client = Client::connect(server.address).await?;
    let owner = sign_up(&mut client).await?;
    let segment = publish(&mut client, &owner, SEGMENT).await?;
    let large = publish(&mut client, &owner, LARGE).await?;
    for (path, name) in [(&segment, "segment.mp4"), (&large, "large.mp4")] {
        let (answer, bytes) = client.fetch(path).await?;
        expect(answer.status == 200, "the video does not play")?;
        fs::write(folder.join("files").join(name), bytes)?;
    }
    let seek = folder.join("seek.lua");
    fs::write(&seek, seek_script())?;
    let twins = |path: &str, name: &str| {
        (format!("http://{}{path}", server.address), format!("http://{}/{name}", nginx.address))
    };

    let (mut whole, mut seeking) = (Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        let (ours, theirs) = twins(&segment, "segment.mp4");
        let (ours, theirs) = (wrk(options, &ours, None)?, wrk(options, &theirs, None)?);
        whole.push(ours.per_second / theirs.per_second);
        let (sought, twin) = twins(&large, "large.mp4");
        let (sought, twin) = (wrk(options, &sought, Some(&seek))?, wrk(options, &twin, Some(&seek))?);
        seeking.push(sought.p99_ms / twin.p99_ms);
        println!(
            "      round {round}: segments {:.0}/s beside {:.0}/s, seeks {:.0}/s beside {:.0}/s, p99 {:.2} ms beside {:.2} ms",
            ours.per_second, theirs.per_second, sought.per_second, twin.per_second, sought.p99_ms, twin.p99_ms
        );
    }
    let segments = Figure {
        name: "segments of 1 MiB per second beside nginx".to_owned(),
        value: median(whole),
        bound: Bound::AtLeast(0.40),
        unit: "of it",
    };
    let seeks = Figure {
        name: "99th percentile of a seek of 256 KiB beside nginx".to_owned(),
        value: median(seeking),
        bound: Bound::AtMost(2.0),
        unit: "times",
    };
    println!("{segments}\n{seeks}");
    Ok(segments.passes() && seeks.passes())
}

/// What wrk found.
struct Found {
    per_second: f64,
    p99_ms: f64,
}

fn wrk(options: &Options, url: &str, script: Option<&Path>) -> Result<Found, Failure> {
    let mut command = Command::new("wrk");
    command.args(["-t", "1", "-c", CONNECTIONS, "--latency", "-d", &format!("{}s", options.seconds)]);
    if let Some(script) = script {
        command.arg("-s").arg(script);
    }
    let output = command.arg(url).output().map_err(|error| format!("wrk: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    expect(output.status.success() && !text.contains("Non-2xx"), &format!("wrk was not served: {text}"))?;
    let after = |name: &str| text.lines().find_map(|line| line.trim().strip_prefix(name)).map(str::trim);
    let per_second = after("Requests/sec:").and_then(|value| value.parse().ok());
    let p99_ms = after("99%").and_then(milliseconds);
    match (per_second, p99_ms) {
        (Some(per_second), Some(p99_ms)) => Ok(Found { per_second, p99_ms }),
        _ => Err(format!("wrk says something else: {text}").into()),
    }
}

/// wrk writes `12.34ms`, `56.78us` or `1.23s`.
fn milliseconds(text: &str) -> Option<f64> {
    let (number, factor) = match text {
        text if text.ends_with("us") => (text.strip_suffix("us")?, 1e-3),
        text if text.ends_with("ms") => (text.strip_suffix("ms")?, 1.0),
        text => (text.strip_suffix('s')?, 1e3),
    };
    number.parse::<f64>().ok().map(|number| number * factor)
}

fn seek_script() -> String {
    format!(
        "math.randomseed(7)\nrequest = function()\n  local from = math.random(0, {})\n  \
         wrk.headers['Range'] = 'bytes=' .. from .. '-' .. (from + {})\n  return wrk.format('GET')\nend\n",
        LARGE - SEEK,
        SEEK - 1
    )
}

/// A private nginx over the folder `files`. Dropping it ends it.
struct Nginx {
    child: Child,
    address: SocketAddr,
}

impl Nginx {
    fn start(folder: &Path) -> Result<Self, Failure> {
        let address = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?.local_addr()?;
        let root = folder.display();
        fs::create_dir_all(folder.join("files"))?;
        // Readable by the worker processes, which run as somebody else where this one is root.
        let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
        let config = format!(
            "{user} daemon off; worker_processes 2; pid {root}/nginx.pid; error_log {root}/nginx.err;\n\
             events {{ worker_connections 256; }}\n\
             http {{ access_log {root}/nginx.log; sendfile on; tcp_nopush on; client_body_temp_path {root}/body;\n\
             proxy_temp_path {root}/proxy; fastcgi_temp_path {root}/fastcgi; uwsgi_temp_path {root}/uwsgi;\n\
             scgi_temp_path {root}/scgi; types {{ video/mp4 mp4; }}\n\
             server {{ listen {address}; root {root}/files; }} }}\n"
        );
        let file = folder.join("nginx.conf");
        fs::write(&file, config)?;
        let child = Command::new("nginx")
            .arg("-p")
            .arg(folder)
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("nginx: {error}"))?;
        Ok(Self { child, address })
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its workers end with the master only if it is asked to stop.
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

async fn sign_up(client: &mut Client) -> Result<String, Failure> {
    let person = json!({"email": "v@example.org", "handle": "viewer", "password": "long enough to hash"});
    let (_, body) = client.json("POST", "/api/v1/auth/register", None, Some(&person)).await?;
    text(&body["access_token"])
}

/// A public video of `size` bytes; the path that plays it.
async fn publish(client: &mut Client, token: &str, size: u64) -> Result<String, Failure> {
    let draft = json!({"title": "A video", "visibility": "public"});
    let (_, video) = client.json("POST", "/api/v1/videos", Some(token), Some(&draft)).await?;
    let video = text(&video["id"])?;
    let declared = json!({"size_bytes": size});
    let path = format!("/api/v1/videos/{video}/uploads");
    let (_, upload) = client.json("POST", &path, Some(token), Some(&declared)).await?;
    let filling = u32::try_from(size - VIDEO.len() as u64)?;
    let head = [VIDEO, &filling.to_be_bytes(), b"free"].concat();
    let answer = client.put_padded(&text(&upload["upload_url"])?, &head, size).await?;
    expect(answer.status == 200, "the bytes were not taken")?;
    let path = format!("/api/v1/uploads/{}/complete", text(&upload["id"])?);
    client.json("POST", &path, Some(token), None).await?;
    for _ in 0..600 {
        let (_, found) = client.json("GET", &format!("/api/v1/videos/{video}"), Some(token), None).await?;
        if found["status"] == "ready" {
            return text(&found["playback"]["url"]);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err("the video does not get ready".into())
}

fn text(value: &Value) -> Result<String, Failure> {
    Ok(value.as_str().ok_or_else(|| format!("{value} is no text"))?.to_owned())
}

fn expect(holds: bool, otherwise: &str) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(otherwise.to_owned().into()) }
}
