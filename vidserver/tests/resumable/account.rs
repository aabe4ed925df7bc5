//! Somebody with an account, and what the API tells them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long anything may take before a test gives up: far above what it takes.
const BOUND: Duration = Duration::from_secs(120);

/// A signed-up client of a server.
#[derive(Clone)]
pub(crate) struct Account {
    pub(crate) http: reqwest::Client,
    pub(crate) token: String,
}

impl Account {
    /// Signs up.
    pub(crate) async fn sign_up(server: SocketAddr) -> Self {
        // One connection for each request: what cuts one off is no other's matter.
        let http = reqwest::Client::builder().no_proxy().timeout(BOUND).pool_max_idle_per_host(0);
        let account = Self { http: http.build().expect("a client"), token: String::new() };
        let form = json!({"email": "t@example.org", "handle": "tus_test", "password": "a long password"});
        let request = account.http.post(format!("http://{server}/api/v1/auth/register")).json(&form);
        let answer = request.send().await.expect("the server answers");
        assert_eq!(201, answer.status());
        let signed_in: Value = answer.json().await.expect("json");
        Self { token: signed_in["access_token"].as_str().expect("a token").to_owned(), ..account }
    }

    /// What a path of the API shows.
    pub(crate) async fn get(&self, server: SocketAddr, path: &str) -> Value {
        let request = self.http.get(format!("http://{server}/api/v1{path}")).bearer_auth(&self.token);
        let answer = request.send().await.expect("the server answers");
        assert_eq!(200, answer.status(), "GET {path}");
        answer.json().await.expect("json")
    }

    /// Makes a draft; its id.
    pub(crate) async fn draft(&self, server: SocketAddr) -> String {
        let draft = self.post(server, "/videos", json!({"title": "A draft"})).await;
        draft["id"].as_str().expect("an id").to_owned()
    }

    /// Polls a path until `done` says so.
    pub(crate) async fn until(&self, server: SocketAddr, path: &str, done: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let value = self.get(server, path).await;
            if done(&value) {
                return value;
            }
            assert!(begun.elapsed() < BOUND, "{path} stays {value}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until an upload is checked and its video ready; both, the upload first.
    pub(crate) async fn until_ready(&self, server: SocketAddr, upload: &str) -> (Value, Value) {
        let path = format!("/uploads/{upload}");
        let upload = self.until(server, &path, |upload| upload["status"] != "verifying").await;
        assert_eq!("complete", upload["status"], "{upload}");
        let video = format!("/videos/{}", upload["video_id"].as_str().expect("an id"));
        let video = self.until(server, &video, |video| video["status"] == "ready").await;
        (upload, video)
    }

    /// The bytes that the only rendition of a video has, by a link of the owner's.
    pub(crate) async fn play(&self, server: SocketAddr, video: &Value) -> Vec<u8> {
        let path = format!("/videos/{}/playback-tokens", video["id"].as_str().expect("an id"));
        let minted = self.post(server, &path, json!({})).await;
        let url = minted["url"].as_str().expect("a URL");
        let answer = self.http.get(format!("http://{server}{url}")).send().await.expect("the server answers");
        assert_eq!(200, answer.status());
        answer.bytes().await.expect("they come").to_vec()
    }

    /// What a path answers that may die over it.
    pub(crate) async fn try_post(&self, server: SocketAddr, path: &str, body: Option<Value>) -> Option<Value> {
        let request = self.http.post(format!("http://{server}/api/v1{path}")).bearer_auth(&self.token);
        let request = match &body {
            Some(body) => request.json(body),
            None => request,
        };
        let answer = request.send().await.ok()?;
        assert!(answer.status().is_success(), "POST {path}: {}", answer.status());
        answer.json().await.ok()
    }

    async fn post(&self, server: SocketAddr, path: &str, body: Value) -> Value {
        let request = self.http.post(format!("http://{server}/api/v1{path}")).bearer_auth(&self.token);
        let answer = request.json(&body).send().await.expect("the server answers");
        assert_eq!(201, answer.status(), "POST {path}");
        answer.json().await.expect("json")
    }
}
