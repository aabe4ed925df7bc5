//! The whole server over a platform in a folder of its own, and a client that holds every answer to
//! the published document.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use vidcore::Platform;
use vidcore::auth::Role;
use vidcore::clock::{Clock, ManualClock};
use vidcore::doctor::examine;
use vidcore::id::UserId;
use vidcore::media::Transcoder;
use vidcore::media::simulated::SimulatedTranscoder;
use vidcore::platform::Settings;
use vidcore::platform::settings::RateLimitSettings;
use vidserver::config::{HttpSettings, ServerSettings};
use vidserver::server::{Drained, Server, Stop};

use crate::contract::Contract;
use crate::redaction::redacted;
use crate::support::bounded;

/// A clip every back end accepts, 3 seconds of 320x240.
pub(crate) const CLIP: &[u8] = include_bytes!("../../../fixtures/no-audio.mp4");

/// Good enough for every account of the tests.
pub(crate) const PASSWORD: &str = "correct horse battery";

/// A running server on a free port. Its time stands still unless the test moves it.
#[derive(Debug)]
pub(crate) struct TestApp {
    pub(crate) address: SocketAddr,
    pub(crate) platform: Platform,
    pub(crate) clock: ManualClock,
    pub(crate) folder: TempDir,
    client: reqwest::Client,
    pub(crate) contract: Contract,
    stop: Stop,
    run: JoinHandle<Drained>,
}

/// What a test wants to be otherwise.
pub(crate) struct TestAppBuilder {
    settings: Settings,
    http: HttpSettings,
    clock: ManualClock,
    transcoder: Arc<dyn Transcoder>,
    folder: Option<TempDir>,
}

/// Somebody who has signed up.
#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) id: String,
    pub(crate) email: String,
    pub(crate) access: String,
    pub(crate) refresh: String,
}

impl TestAppBuilder {
    pub(crate) fn settings(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    pub(crate) fn http(mut self, change: impl FnOnce(&mut HttpSettings)) -> Self {
        change(&mut self.http);
        self
    }

    /// Goes on in a folder that has data already.
    pub(crate) fn folder(mut self, folder: TempDir) -> Self {
        self.folder = Some(folder);
        self
    }

    /// A transcoder on the clock of the test.
    pub(crate) fn transcoder(mut self, make: impl FnOnce(Arc<dyn Clock>) -> SimulatedTranscoder) -> Self {
        self.transcoder = Arc::new(make(Arc::new(self.clock.clone())));
        self
    }

    /// One that has its own time.
    pub(crate) fn any_transcoder(mut self, transcoder: Arc<dyn Transcoder>) -> Self {
        self.transcoder = transcoder;
        self
    }

    pub(crate) async fn start(mut self) -> TestApp {
        let folder = self.folder.unwrap_or_else(|| tempfile::tempdir().expect("a folder"));
        self.settings.data_dir = folder.path().join("data");
        let platform = Platform::builder(self.settings)
            .clock(Arc::new(self.clock.clone()))
            .transcoder(self.transcoder)
            .open()
            .await
            .expect("a platform opens in an empty folder");
        let app = vidserver::app(platform.clone(), self.http);
        let contract = Contract::new(&app.openapi);
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = Server::bind(loopback, ServerSettings::default(), app.router).await.expect("a free port");
        let (address, stop) = (server.local_addr(), Stop::new());
        let run = tokio::spawn(server.run(stop.clone()));
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().expect("a client");
        TestApp { address, platform, clock: self.clock, folder, client, contract, stop, run }
    }
}

impl TestApp {
    /// No limits, and a transcoder that takes no time.
    pub(crate) fn builder() -> TestAppBuilder {
        let settings = Settings { rate_limits: RateLimitSettings::unlimited(), ..Settings::default() };
        let clock = ManualClock::default();
        let transcoder =
            SimulatedTranscoder::builder(Arc::new(clock.clone())).encode_time(Duration::ZERO).steps(1).build();
        TestAppBuilder {
            settings,
            http: HttpSettings::default(),
            clock,
            transcoder: Arc::new(transcoder),
            folder: None,
        }
    }

    pub(crate) async fn start() -> Self {
        Self::builder().start().await
    }

    /// Stops the server and the platform, and holds what is left to every invariant.
    pub(crate) async fn finish(self) {
        self.end().await;
    }

    /// The same, and hands over the folder.
    pub(crate) async fn end(self) -> TempDir {
        let platform = self.platform.clone();
        let folder = self.end_unsound().await;
        let examined = examine(&**platform.store(), platform.objects(), true).await;
        let findings = examined.expect("an examination ends").findings;
        assert!(findings.is_empty(), "{findings:?}");
        folder
    }

    /// Stops the server and the platform, where a test has broken something for good.
    pub(crate) async fn end_unsound(self) -> TempDir {
        self.stop.ask();
        bounded(self.run).await.expect("the server ends well");
        bounded(self.platform.shutdown()).await;
        self.folder
    }

    pub(crate) fn call(&self, method: Method, path: &str) -> Call<'_> {
        let url = format!("http://{}{path}", self.address);
        let request = self.client.request(method.clone(), url);
        Call { app: self, method, meant: None, path: path.to_owned(), request }
    }

    pub(crate) fn get(&self, path: &str) -> Call<'_> {
        self.call(Method::GET, path)
    }

    pub(crate) fn head(&self, path: &str) -> Call<'_> {
        self.call(Method::HEAD, path)
    }

    pub(crate) fn post(&self, path: &str) -> Call<'_> {
        self.call(Method::POST, path)
    }

    pub(crate) fn put(&self, path: &str) -> Call<'_> {
        self.call(Method::PUT, path)
    }

    pub(crate) fn patch(&self, path: &str) -> Call<'_> {
        self.call(Method::PATCH, path)
    }

    pub(crate) fn delete(&self, path: &str) -> Call<'_> {
        self.call(Method::DELETE, path)
    }

    /// Signs somebody up whose handle is `name`.
    pub(crate) async fn user(&self, name: &str) -> User {
        let email = format!("{name}@example.org");
        let body = json!({"email": email, "handle": name, "password": PASSWORD});
        User::of(&self.post("/api/v1/auth/register").json(&body).send().await.expect(201).json())
    }

    /// Signs somebody up and gives them a role.
    pub(crate) async fn user_as(&self, name: &str, role: Role) -> User {
        let user = self.user(name).await;
        let id: UserId = user.id.parse().expect("an id");
        self.platform.store().set_role(id, role, self.platform.now()).await.expect("a role is given");
        // The new role needs a new token.
        let body = json!({"email": user.email, "password": PASSWORD});
        User::of(&self.post("/api/v1/auth/login").json(&body).send().await.expect(200).json())
    }

    /// A draft of `owner`'s: the body of its creation.
    pub(crate) async fn draft(&self, owner: &User, title: &str, visibility: &str) -> Value {
        let body = json!({"title": title, "visibility": visibility});
        self.post("/api/v1/videos").by(owner).json(&body).send().await.expect(201).json()
    }

    /// An open upload for a video.
    pub(crate) async fn upload(&self, owner: &User, video: &str, size_bytes: usize) -> Value {
        let path = format!("/api/v1/videos/{video}/uploads");
        self.post(&path).by(owner).json(&json!({"size_bytes": size_bytes})).send().await.expect(201).json()
    }

    /// Brings the clip to a video and completes the upload.
    pub(crate) async fn bring(&self, owner: &User, video: &str, bytes: &'static [u8]) -> Value {
        let upload = self.upload(owner, video, bytes.len()).await;
        self.put(text(&upload["upload_url"])).bytes(bytes).send().await.expect(200);
        let path = format!("/api/v1/uploads/{}/complete", text(&upload["id"]));
        self.post(&path).by(owner).send().await.expect(202).json()
    }

    /// A video that plays: its body as its owner reads it.
    pub(crate) async fn ready(&self, owner: &User, title: &str, visibility: &str) -> Value {
        let draft = self.draft(owner, title, visibility).await;
        let id = text(&draft["id"]);
        self.bring(owner, id, CLIP).await;
        let video = self.until(owner, &format!("/api/v1/videos/{id}"), |video| video["status"] == "ready").await;
        // The job itself ends a moment after what it published.
        let ended = |job: &Value| matches!(text(&job["state"]), "done" | "dead" | "cancelled");
        self.until(owner, "/api/v1/jobs", |page| page["items"].as_array().expect("items").iter().all(ended)).await;
        video
    }

    /// Asks until the worker has done its part; it has a thread of its own, which no clock moves.
    pub(crate) async fn until(&self, caller: &User, path: &str, done: impl Fn(&Value) -> bool) -> Value {
        bounded(async {
            loop {
                let body = self.get(path).by(caller).send().await.expect(200).json();
                if done(&body) {
                    return body;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
    }
}

impl User {
    /// Of an answer that signs in.
    pub(crate) fn of(body: &Value) -> Self {
        Self {
            id: text(&body["user"]["id"]).to_owned(),
            email: text(&body["user"]["email"]).to_owned(),
            access: text(&body["access_token"]).to_owned(),
            refresh: text(&body["refresh_token"]).to_owned(),
        }
    }
}

/// The text of a member that is one.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is text"))
}

/// A request that is being written.
#[must_use]
pub(crate) struct Call<'a> {
    app: &'a TestApp,
    method: Method,
    /// Another one that a header names, by which the document knows the request.
    meant: Option<Method>,
    path: String,
    request: reqwest::RequestBuilder,
}

impl Call<'_> {
    fn map(self, change: impl FnOnce(reqwest::RequestBuilder) -> reqwest::RequestBuilder) -> Self {
        Self { request: change(self.request), ..self }
    }

    pub(crate) fn by(self, user: &User) -> Self {
        self.header("authorization", &format!("Bearer {}", user.access))
    }

    pub(crate) fn key(self, key: &str) -> Self {
        self.header("idempotency-key", key)
    }

    pub(crate) fn header(self, name: &str, value: &str) -> Self {
        let is_override = name == "x-http-method-override" && value.bytes().all(|byte| byte.is_ascii_uppercase());
        let meant = is_override.then(|| value.parse().ok()).flatten().or_else(|| self.meant.clone());
        Self { meant, ..self.map(|request| request.header(name, value)) }
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.map(|request| request.json(body))
    }

    pub(crate) fn bytes(self, body: impl Into<reqwest::Body>) -> Self {
        self.map(|request| request.body(body))
    }

    /// Sends it. The answer keeps the promises that all answers make, and those of the document.
    pub(crate) async fn send(self) -> Answer {
        let answer = self.try_send().await;
        answer.unwrap_or_else(|error| panic!("an answer: {error:?}"))
    }

    /// Sends what may break off.
    pub(crate) async fn try_send(self) -> reqwest::Result<Answer> {
        let response = bounded(self.request.send()).await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = bounded(response.bytes()).await?;
        let answer = Answer { status, headers, body };
        answer.keep_the_promises_of_all(&self.method, &self.path);
        self.app.contract.check(self.meant.as_ref().unwrap_or(&self.method), &self.path, &answer);
        Ok(answer)
    }
}

/// A whole answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The same, if it has this status.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(status, self.status, "{}", String::from_utf8_lossy(&self.body));
        self
    }

    /// The problem's code, if it has this status.
    #[track_caller]
    pub(crate) fn problem(self, status: u16) -> String {
        let answer = self.expect(status);
        assert_eq!("application/problem+json", answer.header("content-type"));
        text(&answer.json()["code"]).to_owned()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("JSON: {:?}", self.body))
    }

    /// The body without what differs from run to run.
    pub(crate) fn redacted(&self) -> Value {
        redacted(self.json())
    }

    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).unwrap_or_else(|| panic!("{name} in {:?}", self.headers));
        value.to_str().expect("a header is text")
    }

    fn keep_the_promises_of_all(&self, method: &Method, path: &str) {
        let what = format!("{method} {path}: {} {}", self.status, String::from_utf8_lossy(&self.body));
        assert_ne!(500, self.status, "{what}");
        for name in ["x-request-id", "content-security-policy", "referrer-policy", "cache-control"] {
            assert!(self.headers.contains_key(name), "{name} of {what}");
        }
        assert_eq!("nosniff", self.header("x-content-type-options"), "{what}");
        if self.status >= 400 && method != Method::HEAD && path != "/readyz" {
            assert_eq!("application/problem+json", self.header("content-type"), "{what}");
            assert_eq!("no-store", self.header("cache-control"), "{what}");
            let body = self.json();
            assert_eq!(self.status, body["status"], "{what}");
            assert_eq!(self.header("x-request-id"), body["request_id"], "{what}");
        }
        if matches!(self.status, 429 | 503 | 507) && path != "/readyz" {
            assert!(self.headers.contains_key("retry-after"), "{what}");
        }
        if self.status == 401 && !path.contains("/auth/login") && !path.contains("/auth/refresh") {
            assert!(self.header("www-authenticate").starts_with("Bearer"), "{what}");
        }
    }
}
