//! The example `nest`, run as the process a reader would start, and used over HTTP.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

/// No wait is longer: what has not happened by then never will.
const BOUND: Duration = Duration::from_secs(60);

const CLIP: &[u8] = include_bytes!("../../fixtures/demo.mp4");

/// The running example; ends with the test.
struct Nest {
    child: Child,
    home: String,
    client: Client,
    _data: TempDir,
}

impl Nest {
    fn start() -> Self {
        let data = tempfile::tempdir().expect("a folder");
        let nothing = tempfile::tempdir().expect("a folder");
        let mut child = Command::new(env!("CARGO_BIN_EXE_nest"))
            .args([data.path().as_os_str(), "127.0.0.1:0".as_ref()])
            // Without ffmpeg the original is what plays, whatever this machine has.
            .env("PATH", nothing.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the example starts");
        let stdout = child.stdout.take().expect("it is piped");
        let line = BufReader::new(stdout).lines().next().expect("it says where it listens").expect("text");
        let home = line.split(' ').next().unwrap_or_default().to_owned();
        Self { child, home, client: Client::new(), _data: data }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.home)
    }

    async fn signed_up(&self) -> String {
        let person = json!({"email": "ada@example.org", "handle": "ada", "password": "correct horse battery"});
        let signed_in = json(self.client.post(self.url("/media/api/v1/auth/register")).json(&person)).await;
        signed_in["access_token"].as_str().expect("a token").to_owned()
    }

    /// Waits for the worker, which has a clock of its own.
    async fn until_ready(&self, token: &str, video: &str) {
        let status = async {
            loop {
                let status = self.client.get(self.url(&format!("/media/api/v1/videos/{video}/status")));
                if json(status.bearer_auth(token)).await["status"] == "ready" {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(BOUND, status).await.expect("the video becomes ready");
    }

    /// Creates a public video, sends the clip and waits until it plays; returns the video.
    async fn published(&self, token: &str) -> Value {
        let about = json!({"title": "Nested", "visibility": "public"});
        let video = self.client.post(self.url("/media/api/v1/videos")).bearer_auth(token).json(&about);
        let video = json(video).await["id"].as_str().expect("an id").to_owned();
        let file = json!({"size_bytes": CLIP.len()});
        let upload = self.client.post(self.url(&format!("/media/api/v1/videos/{video}/uploads")));
        let upload = json(upload.bearer_auth(token).json(&file)).await;
        let (put, id) = (upload["upload_url"].as_str().expect("a URL"), upload["id"].as_str().expect("an id"));
        assert!(put.starts_with("/media/api/v1/uploads/"), "{put}");
        json(self.client.put(self.url(put)).body(CLIP)).await;
        json(self.client.post(self.url(&format!("/media/api/v1/uploads/{id}/complete"))).bearer_auth(token)).await;
        self.until_ready(token, &video).await;
        json(self.client.get(self.url(&format!("/media/api/v1/videos/{video}")))).await
    }
}

impl Drop for Nest {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn json(request: RequestBuilder) -> Value {
    let answer = request.timeout(BOUND).send().await.expect("an answer");
    let status = answer.status();
    let body = answer.json().await.expect("JSON");
    assert!(status.is_success(), "{status}: {body}");
    body
}

#[tokio::test]
async fn a_video_goes_through_the_nested_router_and_shows_on_the_programs_own_page() {
    let nest = Nest::start();
    let token = nest.signed_up().await;
    let video = nest.published(&token).await;
    let play = video["playback"]["url"].as_str().expect("a link");
    assert!(play.starts_with("/media/api/v1/playback/public/"), "{play}");
    let range = nest.client.get(nest.url(play)).header("range", "bytes=4-7").send().await.expect("an answer");
    assert_eq!(StatusCode::PARTIAL_CONTENT, range.status());
    assert_eq!(CLIP[4..8], range.bytes().await.expect("bytes")[..]);
    assert_eq!(json!(["Nested"]), json(nest.client.get(nest.url("/"))).await);
}

#[tokio::test]
async fn the_nested_pages_and_problems_stand_under_the_same_path() {
    let nest = Nest::start();
    let docs = nest.client.get(nest.url("/media/docs/")).send().await.expect("an answer");
    assert_eq!(StatusCode::OK, docs.status());
    let absent = nest.client.get(nest.url("/media/api/v1/nothing")).send().await.expect("an answer");
    assert_eq!(StatusCode::NOT_FOUND, absent.status());
    let problem: Value = absent.json().await.expect("a problem");
    assert_eq!("/media/docs/problems/not_found", problem["type"]);
}

#[tokio::test]
async fn an_interrupt_ends_the_program_in_order() {
    let mut nest = Nest::start();
    let pid = i32::try_from(nest.child.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a process id");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    let ended = async {
        loop {
            if let Some(status) = nest.child.try_wait().expect("our own child") {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(BOUND, ended).await.expect("it ends").success());
}
