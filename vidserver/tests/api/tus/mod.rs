//! The tus resumable upload protocol 1.0.0, section by section. What the protocol says stands in quotes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::{Value, json};
use vidcore::storage::objects::sha256;

use crate::app::{Answer, CLIP, Call, PASSWORD, TestApp, User, text};

mod bucket;
mod checksum;
mod concatenation;
mod core;
mod creation;
mod cross_origin;
mod expiration;
mod framing;
mod moving;
mod overriding;
mod permission;
mod termination;
mod writers;

const TUS: &str = "/api/v1/uploads/tus";
const BYTES: &str = "application/offset+octet-stream";

/// What the tests of the protocol share: a server, and somebody who uploads.
struct Site {
    app: TestApp,
    ada: User,
}

impl Site {
    async fn start() -> Self {
        Self::of(TestApp::start().await).await
    }

    async fn of(app: TestApp) -> Self {
        let ada = app.user("ada").await;
        Self { app, ada }
    }

    /// A request of hers that speaks the protocol.
    fn call(&self, method: Method, url: &str) -> Call<'_> {
        self.app.call(method, path_of(url)).by(&self.ada).header("tus-resumable", "1.0.0")
    }

    fn post(&self) -> Call<'_> {
        self.call(Method::POST, TUS)
    }

    /// The URL of a new upload of `length` bytes.
    async fn create(&self, length: usize) -> String {
        let answer = self.post().header("upload-length", &length.to_string()).send().await.expect(201);
        answer.header("location").to_owned()
    }

    fn patch(&self, url: &str, offset: usize, bytes: &[u8]) -> Call<'_> {
        self.call(Method::PATCH, url)
            .header("content-type", BYTES)
            .header("upload-offset", &offset.to_string())
            .bytes(bytes.to_vec())
    }

    async fn head(&self, url: &str) -> Answer {
        self.call(Method::HEAD, url).send().await
    }

    async fn offset(&self, url: &str) -> usize {
        self.head(url).await.expect(200).header("upload-offset").parse().expect("a number")
    }

    /// The upload as the API shows it.
    async fn upload(&self, url: &str) -> Value {
        self.app.get(&format!("/api/v1/uploads/{}", id_of(url))).by(&self.ada).send().await.expect(200).json()
    }

    /// Waits until the bytes are a video's source, and holds them against what was sent.
    async fn assert_arrived(&self, url: &str, bytes: &[u8]) -> Value {
        let path = format!("/api/v1/uploads/{}", id_of(url));
        let upload = self.app.until(&self.ada, &path, |upload| upload["status"] == "complete").await;
        let key = format!("originals/{}/{}", text(&upload["video_id"]), text(&upload["id"]));
        let measured = self.app.platform.objects().measure(&key).await.expect("the original is there");
        assert_eq!((bytes.len() as u64, sha256(bytes)), (measured.size_bytes, measured.sha256));
        let video = format!("/api/v1/videos/{}", text(&upload["video_id"]));
        self.app.until(&self.ada, &video, |video| video["status"] == "ready").await
    }

    async fn usage(&self) -> Value {
        self.app.get("/api/v1/users/me/usage").by(&self.ada).send().await.expect(200).json()
    }

    /// The same, once her token has run out.
    async fn signed_in_again(mut self) -> Self {
        let body = json!({"email": self.ada.email, "password": PASSWORD});
        self.ada = User::of(&self.app.post("/api/v1/auth/login").json(&body).send().await.expect(200).json());
        self
    }

    async fn finish(self) {
        self.app.finish().await;
    }
}

/// The path of an absolute URL of this server.
fn path_of(url: &str) -> &str {
    match url.strip_prefix("http://") {
        Some(rest) => &rest[rest.find('/').expect("a path")..],
        None => url,
    }
}

fn id_of(url: &str) -> &str {
    let path = url.split('?').next().expect("a path");
    path.rsplit('/').next().expect("an id")
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

/// A middle of the clip that is no round number.
const HALF: usize = CLIP.len() / 2 + 1;
