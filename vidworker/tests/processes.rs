//! A server without a worker beside real `vidworker` processes on one data folder.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vidcore::Platform;
use vidcore::platform::Settings;
use vidcore::platform::settings::TranscoderChoice;
use vidcore::testkit::require;
use vidserver::config::Config;
use vidserver::running::RunningServer;
use vidserver::server::Stop;

/// How long anything may take before a test gives up: far above what it takes.
const BOUND: Duration = Duration::from_secs(90);

/// How long a change may take to be seen by another process.
const NEWS: Duration = Duration::from_secs(1);

/// A `vidworker` process. Killed when dropped.
struct WorkerProcess(Child);

impl WorkerProcess {
    fn start(data_dir: &Path, transcoder: &str) -> Self {
        Self::start_with(data_dir, transcoder, &[])
    }

    /// Starts one with settings of its own.
    fn start_with(data_dir: &Path, transcoder: &str, settings: &[(&str, &str)]) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_vidworker"))
            .arg("--data-dir")
            .arg(data_dir)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("VID_MEDIA__TRANSCODER", transcoder)
            .env("VID_WORKER__LEASE_MS", "900")
            .env("VID_WORKER__HEARTBEAT_MS", "150")
            // Far above the bound on news: what is seen sooner was told, not swept.
            .env("VID_WORKER__SWEEP_MS", "30000")
            .env("VID_WORKER__RETRY_BASE_MS", "50")
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the worker starts");
        Self(child)
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, signal).expect("it is there");
    }

    /// Asks it to stop and waits until it has, well.
    fn stop(mut self) {
        self.signal(rustix::process::Signal::TERM);
        let begun = Instant::now();
        loop {
            match self.0.try_wait().expect("it is our child") {
                Some(status) => return assert!(status.success(), "{status}"),
                None => assert!(begun.elapsed() < BOUND, "the worker does not end"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server in this process that leaves jobs to others, and a signed-up client of it.
struct Site {
    folder: tempfile::TempDir,
    platform: Platform,
    server: RunningServer,
    stop: Stop,
    http: reqwest::Client,
    token: String,
}

impl Site {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut config = Config {
            platform: Settings { data_dir: folder.path().join("data"), ..Settings::default() },
            ..Config::default()
        };
        config.platform.worker.enabled = false;
        config.platform.media.transcoder = TranscoderChoice::Simulated;
        config.server.listen = ([127, 0, 0, 1], 0).into();
        config.server.metrics_enabled = false;
        let platform = Platform::open(config.platform.clone()).await.expect("the folder opens");
        let stop = Stop::new();
        let server = RunningServer::start(&config, platform.clone(), stop.clone()).await.expect("a free port");
        let http = reqwest::Client::builder().no_proxy().timeout(BOUND).build().expect("a client");
        let mut site = Self { folder, platform, server, stop, http, token: String::new() };
        let account = json!({"email": "w@example.org", "handle": "worker_test", "password": "a long password"});
        let signed_in = site.post("/auth/register", account).await;
        site.token = text(&signed_in["access_token"]);
        site
    }

    fn data_dir(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let request = self.http.post(self.url(path)).json(&body);
        let request = if self.token.is_empty() { request } else { request.bearer_auth(&self.token) };
        let answer = request.send().await.expect("an answer");
        assert!(answer.status().is_success(), "POST {path}: {}", answer.status());
        answer.json().await.expect("json")
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.http.get(self.url(path)).bearer_auth(&self.token).send().await.expect("an answer");
        assert!(answer.status().is_success(), "GET {path}: {}", answer.status());
        answer.json().await.expect("json")
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/api/v1{path}", self.server.api)
    }

    /// Creates a public video and uploads a fixture for it; returns the video's and the upload's id.
    async fn upload(&self, fixture: &str) -> (String, String) {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(fixture);
        let bytes = std::fs::read(file).expect("the fixture is there");
        let video = text(&self.post("/videos", json!({"title": fixture, "visibility": "public"})).await["id"]);
        let upload = self.post(&format!("/videos/{video}/uploads"), json!({"size_bytes": bytes.len()})).await;
        let url = format!("http://{}{}", self.server.api, text(&upload["upload_url"]));
        let answer = self.http.put(url).body(bytes).send().await.expect("an answer");
        assert_eq!(200, answer.status());
        let upload = text(&upload["id"]);
        let complete = self.http.post(self.url(&format!("/uploads/{upload}/complete"))).bearer_auth(&self.token);
        assert_eq!(202, complete.send().await.expect("an answer").status());
        (video, upload)
    }

    /// Polls until `done` says so, within the bound.
    async fn until(&self, path: &str, done: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let value = self.get(path).await;
            if done(&value) {
                return value;
            }
            assert!(begun.elapsed() < BOUND, "{path} stays {value}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn until_ready(&self, video: &str) -> Value {
        self.until(&format!("/videos/{video}/status"), |status| {
            let renditions = status["renditions"].as_array().cloned().unwrap_or_default();
            status["status"] == "ready" && renditions.iter().all(|rendition| rendition["status"] == "ready")
        })
        .await
    }

    async fn finish(self) {
        // What killed attempts put is orphaned until a collection.
        self.platform.collect_objects().await.expect("it can be collected");
        let report = self.platform.examine(true).await.expect("it can be examined");
        assert!(report.findings.is_empty(), "{:#?}", report.findings);
        self.stop.ask();
        self.server.finished().await;
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

#[tokio::test]
async fn two_workers_process_what_a_server_without_one_takes() {
    let site = Site::start().await;
    let workers =
        [WorkerProcess::start(&site.data_dir(), "simulated"), WorkerProcess::start(&site.data_dir(), "simulated")];
    let mut videos = Vec::new();
    for _ in 0..3 {
        videos.push(site.upload("landscape.mp4").await.0);
    }
    for video in &videos {
        site.until_ready(video).await;
    }
    workers.into_iter().for_each(WorkerProcess::stop);
    site.finish().await;
}

#[tokio::test]
async fn what_a_worker_publishes_is_listed_by_the_server_within_a_second() {
    let site = Site::start().await;
    let worker = WorkerProcess::start(&site.data_dir(), "simulated");
    // The server's cache now knows that there is nothing.
    assert_eq!(json!([]), site.get("/videos/popular").await["items"]);
    let (video, _) = site.upload("landscape.mp4").await;
    // The owner's view is read from the database; the lists come from the cache.
    site.until_ready(&video).await;
    let ready = Instant::now();
    site.until("/videos/popular", |popular| popular["items"].as_array().is_some_and(|items| items.len() == 1)).await;
    assert!(ready.elapsed() < NEWS, "it took {:?}", ready.elapsed());
    let page = site.http.get(site.url(&format!("/videos/{video}"))).send().await.expect("an answer");
    assert_eq!(200, page.status(), "strangers see it");
    worker.stop();
    site.finish().await;
}

#[tokio::test]
async fn what_another_process_hides_is_gone_here_within_a_second() {
    let site = Site::start().await;
    let worker = WorkerProcess::start(&site.data_dir(), "simulated");
    let (video, _) = site.upload("landscape.mp4").await;
    site.until_ready(&video).await;
    let page = site.url(&format!("/videos/{video}"));
    assert_eq!(200, site.http.get(&page).send().await.expect("an answer").status());

    // Another process of the same folder: here a second platform, with caches of its own.
    let mut settings = site.platform.settings().clone();
    settings.worker.enabled = false;
    let other = Platform::open(settings).await.expect("the folder opens twice");
    let actor = other.auth().authenticate(&site.token).await.expect("the keys are shared");
    let id = video.parse().expect("an id");
    other.catalog().trash(&actor, id, None, None).await.expect("it can be trashed");
    let hidden = Instant::now();
    loop {
        match site.http.get(&page).send().await.expect("an answer").status().as_u16() {
            404 => break,
            _ => assert!(hidden.elapsed() < NEWS, "it is still shown after {:?}", hidden.elapsed()),
        }
    }
    other.shutdown().await;
    worker.stop();
    site.finish().await;
}

#[tokio::test]
async fn a_job_of_a_killed_worker_is_finished_by_the_other() {
    if !require("ffmpeg", on_path("ffmpeg")) {
        return;
    }
    let site = Site::start().await;
    let doomed = WorkerProcess::start(&site.data_dir(), "ffmpeg");
    let (video, _) = site.upload("demo.mp4").await;
    let path = format!("/videos/{video}/status");
    site.until(&path, |status| status["renditions"][0]["status"] == "encoding").await;
    drop(doomed);
    let heir = WorkerProcess::start(&site.data_dir(), "ffmpeg");
    // The heir's first sweep frees the job once its lease has run out; it may start before that.
    let begun = Instant::now();
    while site.get(&path).await["status"] != "ready" && begun.elapsed() < BOUND {
        site.platform.store().sweep().await.expect("a sweep");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let status = site.until_ready(&video).await;
    assert_eq!(2, status["renditions"].as_array().map_or(0, Vec::len));
    heir.stop();
    site.finish().await;
}

#[tokio::test]
async fn a_worker_that_is_asked_to_stop_gives_its_job_back_uncounted() {
    if !require("ffmpeg", on_path("ffmpeg")) {
        return;
    }
    let site = Site::start().await;
    // A lease that holds on a busy machine too: this is about what is given back, not about what is lost.
    // One job at a time, and smallest first: what it is at is the larger rendition, which takes far longer
    // than the grace time.
    let lease = ("VID_WORKER__LEASE_MS", "30000");
    let settings = [lease, ("VID_WORKER__CONCURRENCY", "1"), ("VID_WORKER__GRACE_MS", "100")];
    let worker = WorkerProcess::start_with(&site.data_dir(), "ffmpeg", &settings);
    let (video, _) = site.upload("demo.mp4").await;
    let encoding = |status: &Value| status["renditions"][1]["status"] == "encoding";
    site.until(&format!("/videos/{video}/status"), encoding).await;
    let leased = site.get(&format!("/jobs?video_id={video}&kind=make_rendition&state=leased")).await;
    assert_eq!(Some(1), leased["items"].as_array().map(Vec::len), "{leased}");
    worker.stop();
    let job = format!("/jobs/{}", text(&leased["items"][0]["id"]));
    let given_back = site.get(&job).await;
    assert_eq!("queued", given_back["state"], "{given_back}");
    assert_eq!(0, given_back["attempts"], "{given_back}");
    assert_eq!("released", given_back["history"][0]["outcome"], "{given_back}");
    // Nobody else is there to do it, so the next worker has surely begun when it is done.
    let next = WorkerProcess::start_with(&site.data_dir(), "ffmpeg", &[lease]);
    site.until(&job, |job| job["state"] == "done").await;
    site.until_ready(&video).await;
    next.stop();
    site.finish().await;
}

#[tokio::test]
async fn hostile_files_are_rejected_with_a_reason_and_the_worker_lives_on() {
    let transcoder = if require("ffmpeg", on_path("ffmpeg")) { "ffmpeg" } else { "simulated" };
    let site = Site::start().await;
    let worker = WorkerProcess::start(&site.data_dir(), transcoder);
    let mut hostile = Vec::new();
    for fixture in ["playlist.mp4", "no-index.mp4", "text.mp4", "audio-only.mp4"] {
        hostile.push((fixture, site.upload(fixture).await));
    }
    for (fixture, (video, upload)) in hostile {
        let upload = site.until(&format!("/uploads/{upload}"), |upload| upload["status"] != "verifying").await;
        assert_eq!("rejected", upload["status"], "{fixture}");
        let reason = text(&upload["reason"]);
        assert!(reason.len() > 10 && !reason.contains('/') && reason.is_ascii(), "{fixture}: {reason}");
        assert_eq!("draft", site.get(&format!("/videos/{video}")).await["status"], "{fixture}");
    }
    assert_eq!(json!([]), site.get("/videos").await["items"], "nothing is published");
    let (video, _) = site.upload("landscape.mp4").await;
    site.until_ready(&video).await;
    worker.stop();
    site.finish().await;
}

/// Packets ffprobe reads from each video stream behind a URL: it fetches every segment to count them.
fn packets_by_stream(url: &str) -> Vec<u64> {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "v", "-count_packets", "-of", "json"])
        .args(["-show_entries", "stream=nb_read_packets", url])
        .output()
        .expect("ffprobe runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).expect("json");
    let streams = found["streams"].as_array().expect("streams");
    streams.iter().map(|stream| text(&stream["nb_read_packets"]).parse().expect("a number")).collect()
}

#[tokio::test]
async fn ffprobe_reads_every_segment_of_every_rendition_by_public_and_by_token_url() {
    if !require("ffmpeg", on_path("ffmpeg")) {
        return;
    }
    let site = Site::start().await;
    let worker = WorkerProcess::start(&site.data_dir(), "ffmpeg");
    let (video, _) = site.upload("demo.mp4").await;
    site.until_ready(&video).await;
    let public = text(&site.get(&format!("/videos/{video}")).await["playback"]["url"]);
    let minted = text(&site.post(&format!("/videos/{video}/playback-tokens"), json!({})).await["url"]);
    let source = packets_by_stream(concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/demo.mp4"))[0];
    for path in [public, minted] {
        let url = format!("http://{}{path}", site.server.api);
        let packets = tokio::task::spawn_blocking(move || packets_by_stream(&url)).await.expect("it does not panic");
        assert_eq!(vec![source, source], packets, "each rendition has every frame of the source");
    }
    worker.stop();
    site.finish().await;
}
