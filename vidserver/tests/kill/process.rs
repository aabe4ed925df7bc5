//! A `vidserver` process of the test's own, and a client of it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::Value;

/// How long anything may take before a test gives up: far above what it takes.
const BOUND: Duration = Duration::from_secs(60);

/// Jobs wait for one another.
const ONE_AT_A_TIME: &str = "VID_WORKER__CONCURRENCY=1 VID_WORKER__SHORT_CONCURRENCY=1";

/// What a campaign does in a minute, nobody may do in an hour.
const UNLIMITED: &str = r#"
[rate_limits.policies]
"upload.user" = "unlimited"
"upload.address" = "unlimited"
"append.user" = "unlimited"
"append.address" = "unlimited"
"write.user" = "unlimited"
"write.address" = "unlimited"
"read.user" = "unlimited"
"read.address" = "unlimited"
"#;

/// The program, serving a folder. Killed when dropped.
pub(crate) struct Program {
    child: Child,
    pub(crate) address: SocketAddr,
    log: Log,
}

/// The lines of its log.
type Log = Arc<Mutex<Vec<String>>>;

impl Program {
    /// Starts it on `data_dir`, armed to die at `point`.
    pub(crate) fn start(data_dir: &Path, transcoder: &str, point: Option<&str>) -> Self {
        let points = point.map(|point| format!("{point}=return"));
        Self::run(Command::new(env!("CARGO_BIN_EXE_vidserver")), data_dir, transcoder, points.as_deref())
    }

    /// Starts it on `data_dir` with its points armed as `points` say, and no limit on rates.
    pub(crate) fn start_unlimited(data_dir: &Path, points: Option<&str>) -> Self {
        Self::start_with(data_dir, UNLIMITED, points)
    }

    /// Starts it on `data_dir` with the text as its configuration and its points armed as `points` say.
    pub(crate) fn start_with(data_dir: &Path, config: &str, points: Option<&str>) -> Self {
        std::fs::create_dir_all(data_dir).expect("a folder");
        let text = config;
        let config = data_dir.join("config.toml");
        std::fs::write(&config, text).expect("there is room");
        let mut command = Command::new(env!("CARGO_BIN_EXE_vidserver"));
        command.arg("--config").arg(config);
        Self::run(command, data_dir, "simulated", points)
    }

    /// Starts it on disks of its own, which `mounts` makes at `$0` for this process alone, to stop where `points` say.
    /// One job of each kind of work runs at once.
    pub(crate) fn start_on_disks(mounts: &str, data_dir: &Path, transcoder: &str, points: Option<&str>) -> Self {
        let mut command = in_own_mounts(&format!(r#"{mounts} && exec env {ONE_AT_A_TIME} "$@""#));
        command.arg(data_dir);
        command.arg(env!("CARGO_BIN_EXE_vidserver"));
        Self::run(command, data_dir, transcoder, points)
    }

    fn run(mut command: Command, data_dir: &Path, transcoder: &str, points: Option<&str>) -> Self {
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--data-dir"])
            .arg(data_dir)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("VID_MEDIA__TRANSCODER", transcoder)
            // A lost worker's job is claimable again within a second and a half.
            .env("VID_WORKER__LEASE_MS", "900")
            .env("VID_WORKER__HEARTBEAT_MS", "150")
            .env("VID_WORKER__SWEEP_MS", "200")
            .env("VID_WORKER__RETRY_BASE_MS", "50")
            // Clients say where they come from.
            .env("VID_RATE_LIMITS__TRUSTED_PROXIES", "127.0.0.1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        if let Some(points) = points {
            command.env("FAILPOINTS", points);
        }
        let mut child = command.spawn().expect("the program starts");
        let lines = BufReader::new(child.stderr.take().expect("its log is a pipe"));
        let log = Log::default();
        let noted = Arc::clone(&log);
        let (tell, told) = mpsc::channel();
        // Reads on after the address, so that the program never waits for a full pipe.
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let value: Value = serde_json::from_str(&line).unwrap_or_default();
                if value["what"] == "api" {
                    let _ = tell.send(value["address"].as_str().unwrap_or_default().to_owned());
                }
                noted.lock().expect("noting does not panic").push(line);
            }
        });
        let address = told.recv_timeout(BOUND).expect("the program says where it listens");
        Self { child, address: address.parse().expect("an address"), log }
    }

    /// Waits until the armed program is dead, by SIGKILL and nothing else.
    pub(crate) fn wait_for_death(&mut self) {
        let status = self.wait();
        assert_eq!(Some(9), status.signal(), "it died by {status}");
    }

    /// Kills it, whatever it is doing.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait_for_death();
    }

    /// Asks the program to stop, as an operator would, and waits until it has.
    pub(crate) fn stop(mut self) {
        self.signal(Signal::TERM);
        assert!(self.wait().success());
    }

    /// Waits until the armed program has stopped itself.
    pub(crate) fn wait_until_frozen(&self) {
        let stat = format!("/proc/{}/stat", self.child.id());
        wait_until("the program does not stop itself", || {
            std::fs::read_to_string(&stat).expect("it is there").contains(") T ")
        });
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Waits until so many lines of its log have the text in them.
    pub(crate) fn wait_for_log(&self, text: &str, lines: usize) {
        wait_until(text, || {
            let log = self.log.lock().expect("noting does not panic");
            log.iter().filter(|line| line.contains(text)).count() >= lines
        });
    }

    /// Where this process finds a folder that only the program sees, while it runs.
    pub(crate) fn sees(&self, path: &Path) -> PathBuf {
        let below = path.strip_prefix("/").expect("it is absolute");
        PathBuf::from(format!("/proc/{}/root", self.child.id())).join(below)
    }

    fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).expect("it is there");
    }

    fn wait(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status;
            }
            assert!(begun.elapsed() < BOUND, "the program does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < BOUND, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs a piece of shell where its mounts are seen by itself alone; only others than root need a user
/// namespace for that, which some systems forbid.
pub(crate) fn in_own_mounts(script: &str) -> Command {
    let mut command = Command::new("unshare");
    command.arg("--mount");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["sh", "-c", script]);
    command
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a client remembers from one life of the server to the next.
pub(crate) struct Client {
    http: reqwest::Client,
    token: String,
    pub(crate) video: String,
    pub(crate) upload: String,
    upload_url: String,
    bytes: Vec<u8>,
}

impl Client {
    /// Signs up, creates a video and opens an upload of `bytes`.
    pub(crate) async fn begin(server: &Program, bytes: Vec<u8>) -> Self {
        let http = reqwest::Client::builder().no_proxy().timeout(BOUND).build().expect("a client");
        let empty = String::new;
        let mut client = Self { http, token: empty(), video: empty(), upload: empty(), upload_url: empty(), bytes };
        let account = serde_json::json!({"email": "k@example.org", "handle": "killed", "password": "a long password"});
        let signed_in = client.post(server, "/auth/register", &account).await;
        client.token = text(&signed_in["access_token"]);
        client.begin_video(server).await
    }

    /// Another video of the same account and the same bytes.
    pub(crate) async fn begin_another(&self, server: &Program) -> Self {
        let (http, token, bytes) = (self.http.clone(), self.token.clone(), self.bytes.clone());
        let empty = String::new;
        Self { http, token, video: empty(), upload: empty(), upload_url: empty(), bytes }.begin_video(server).await
    }

    async fn begin_video(self, server: &Program) -> Self {
        let mut client = self;
        let draft = serde_json::json!({"title": "A video that survives", "visibility": "public"});
        client.video = text(&client.post(server, "/videos", &draft).await["id"]);
        let wanted = serde_json::json!({"size_bytes": client.bytes.len()});
        let upload = client.post(server, &format!("/videos/{}/uploads", client.video), &wanted).await;
        client.upload = text(&upload["id"]);
        client.upload_url = text(&upload["upload_url"]);
        client
    }

    /// Sends the bytes; `false` if the server died on the way.
    pub(crate) async fn put(&self, server: &Program) -> bool {
        let url = format!("http://{}{}", server.address, self.upload_url);
        match self.http.put(url).body(self.bytes.clone()).send().await {
            Ok(answer) => {
                assert_eq!(200, answer.status(), "the bytes are taken");
                true
            }
            Err(_) => false,
        }
    }

    /// Opens another upload, of a size of its own, and sends that many bytes; the answer's status and body.
    pub(crate) async fn put_another(&self, server: &Program, size: usize) -> (u16, Value) {
        let wanted = serde_json::json!({"size_bytes": size});
        let upload = self.post(server, &format!("/videos/{}/uploads", self.video), &wanted).await;
        let url = format!("http://{}{}", server.address, text(&upload["upload_url"]));
        let answer = self.http.put(url).body(vec![0; size]).send().await.expect("the server answers");
        (answer.status().as_u16(), answer.json().await.expect("json"))
    }

    /// Completes the upload; `false` if the server died before it answered.
    pub(crate) async fn complete(&self, server: &Program) -> bool {
        let url = format!("http://{}/api/v1/uploads/{}/complete", server.address, self.upload);
        match self.http.post(url).bearer_auth(&self.token).send().await {
            Ok(answer) => {
                assert_eq!(202, answer.status(), "the upload is completed");
                true
            }
            Err(_) => false,
        }
    }

    /// Waits until the video is ready and every rendition is; returns how many there are.
    pub(crate) async fn wait_until_ready(&self, server: &Program) -> usize {
        let begun = Instant::now();
        loop {
            let status = self.get(server, &format!("/videos/{}/status", self.video)).await;
            let renditions = status["renditions"].as_array().cloned().unwrap_or_default();
            if status["status"] == "ready" && renditions.iter().all(|rendition| rendition["status"] == "ready") {
                return renditions.len();
            }
            assert!(begun.elapsed() < BOUND, "the video does not become ready: {status}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Fetches what the video's playback URL leads to.
    pub(crate) async fn play(&self, server: &Program) -> Vec<u8> {
        let video = self.get(server, &format!("/videos/{}", self.video)).await;
        let url = format!("http://{}{}", server.address, text(&video["playback"]["url"]));
        let answer = self.http.get(url).send().await.expect("the server answers");
        assert_eq!(200, answer.status());
        answer.bytes().await.expect("the bytes come").to_vec()
    }

    /// What a write and reads are answered now: the write's status and code, the reads' statuses.
    pub(crate) async fn try_everything(&self, server: &Program) -> (u16, String, [u16; 3]) {
        let draft = serde_json::json!({"title": "One more", "visibility": "public"});
        let write = self.http.post(format!("http://{}/api/v1/videos", server.address)).json(&draft);
        let answer = write.bearer_auth(&self.token).send().await.expect("the server answers");
        let status = answer.status().as_u16();
        let problem: Value = answer.json().await.expect("json");
        let video = format!("/api/v1/videos/{}", self.video);
        let mut reads = [0; 3];
        for (read, path) in reads.iter_mut().zip([video.clone(), format!("{video}/status"), "/healthz".to_owned()]) {
            let get = self.http.get(format!("http://{}{path}", server.address)).bearer_auth(&self.token);
            *read = get.send().await.expect("the server answers").status().as_u16();
        }
        (status, problem["code"].as_str().unwrap_or_default().to_owned(), reads)
    }

    /// Watches the video from the network of that number.
    pub(crate) async fn view(&self, server: &Program, viewer: u64) {
        let url = format!("http://{}/api/v1/videos/{}/views", server.address, self.video);
        let request = self.http.post(url).header("x-forwarded-for", format!("198.51.100.{viewer}"));
        assert_eq!(204, request.send().await.expect("the server answers").status(), "a view");
    }

    /// The views that the database knows of.
    pub(crate) async fn views(&self, server: &Program) -> u64 {
        let video = self.get(server, &format!("/videos/{}", self.video)).await;
        video["views"].as_u64().expect("a number")
    }

    /// Waits until the database knows of so many views, at most for `bound`.
    pub(crate) async fn wait_for_views(&self, server: &Program, views: u64, bound: Duration) {
        let begun = Instant::now();
        while self.views(server).await < views {
            assert!(begun.elapsed() < bound, "views are not written");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn get(&self, server: &Program, path: &str) -> Value {
        let url = format!("http://{}/api/v1{path}", server.address);
        let answer = self.http.get(url).bearer_auth(&self.token).send().await.expect("the server answers");
        assert_eq!(200, answer.status(), "GET {path}");
        answer.json().await.expect("json")
    }

    async fn post(&self, server: &Program, path: &str, body: &Value) -> Value {
        let url = format!("http://{}/api/v1{path}", server.address);
        let request = self.http.post(url).json(body);
        let request = if self.token.is_empty() { request } else { request.bearer_auth(&self.token) };
        let answer = request.send().await.expect("the server answers");
        assert_eq!(201, answer.status(), "POST {path}");
        answer.json().await.expect("json")
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}
