//! The router as a part of somebody else's application.

use std::net::SocketAddr;

use axum::Router;
use axum::routing::get;
use serde_json::{Value, json};
use vidcore::Platform;
use vidcore::platform::Settings;
use vidcore::platform::settings::TranscoderChoice;

use crate::app::{CLIP, PASSWORD, text};

/// An application of somebody's own with the platform under `/media`, served without `ConnectInfo`.
struct Host {
    address: SocketAddr,
    platform: Platform,
    client: reqwest::Client,
    _folder: tempfile::TempDir,
}

impl Host {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut settings = Settings { data_dir: folder.path().join("data"), ..Settings::default() };
        settings.public_url = "https://example.org/media".to_owned();
        settings.media.transcoder = TranscoderChoice::Simulated;
        let platform = Platform::open(settings).await.expect("a platform");
        let app =
            Router::new().route("/", get(|| async { "home" })).nest("/media", vidserver::router(platform.clone()));
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, platform, client: reqwest::Client::new(), _folder: folder }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn get(&self, path: &str) -> reqwest::Response {
        self.client.get(self.url(path)).send().await.expect("an answer")
    }

    async fn post(&self, path: &str, token: &str, body: Value) -> Value {
        let call = self.client.post(self.url(path)).bearer_auth(token);
        let call = if body.is_null() { call } else { call.json(&body) };
        let answer = call.send().await.expect("an answer");
        assert!(answer.status().is_success(), "{path}: {answer:?}");
        answer.json().await.expect("JSON")
    }
}

#[tokio::test]
async fn urls_in_bodies_lead_back_through_the_host() {
    let host = Host::start().await;
    assert_eq!("home", host.get("/").await.text().await.expect("text"));
    let body = json!({"email": "ada@example.org", "handle": "ada", "password": PASSWORD});
    let signed_in = host.post("/media/api/v1/auth/register", "", body).await;
    let token = text(&signed_in["access_token"]);
    for title in ["one", "two"] {
        let video = host.post("/media/api/v1/videos", token, json!({"title": title, "visibility": "public"})).await;
        let path = format!("/media/api/v1/videos/{}", text(&video["id"]));
        let upload = host.post(&format!("{path}/uploads"), token, json!({"size_bytes": CLIP.len()})).await;
        let url = text(&upload["upload_url"]);
        assert!(url.starts_with("/media/api/v1/uploads/"), "{url}");
        let sent = host.client.put(host.url(url)).body(CLIP).send().await.expect("an answer");
        assert_eq!(200, sent.status().as_u16());
        host.post(&format!("/media/api/v1/uploads/{}/complete", text(&upload["id"])), token, Value::Null).await;
        let ready = crate::support::bounded(async {
            loop {
                let answer = host.get(&path).await;
                if answer.status().is_success() {
                    return answer.json::<Value>().await.expect("JSON");
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        })
        .await;
        let file = host.get(text(&ready["playback"]["url"])).await;
        assert_eq!(CLIP, file.bytes().await.expect("bytes"));
    }
    let page = host.get("/media/api/v1/videos?limit=1").await;
    let link = page.headers()["link"].to_str().expect("text").to_owned();
    let next = link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\"")).expect("a link");
    let next: Value = host.get(next).await.json().await.expect("JSON");
    assert_eq!("one", next["items"][0]["title"]);
    host.platform.shutdown().await;
}

#[tokio::test]
async fn documents_and_problems_lead_back_through_the_host() {
    let host = Host::start().await;
    let docs = host.get("/media/docs").await;
    assert_eq!("/media/docs/", docs.url().path());
    assert_eq!(200, docs.status().as_u16());
    let document: Value = host.get("/media/api/v1/openapi.json").await.json().await.expect("JSON");
    assert_eq!(json!([{"url": "/media"}]), document["servers"]);
    let problem = host.get("/media/api/v1/users/me").await;
    assert_eq!(401, problem.status().as_u16());
    let problem: Value = problem.json().await.expect("JSON");
    assert_eq!("/media/docs/problems/unauthenticated", problem["type"]);
    assert_eq!(200, host.get(text(&problem["type"])).await.status().as_u16());
    let absent = host.get("/media/nowhere").await;
    assert_eq!("application/problem+json", absent.headers()["content-type"]);
    host.platform.shutdown().await;
}
