//! A server on a free port around a few routes of its own, and raw sockets to talk to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRef, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, patch, post, put};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use garde::Validate;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use vidcore::id::VideoId;
use vidcore::storage::objects::sha256;
use vidserver::app::{Edge, PublicUrl, Stacks, assemble};
use vidserver::config::{HttpSettings, ServerSettings};
use vidserver::extract::{
    EntityTag, IfMatch, IfNoneMatch, Json, Keyed, MergePatch, Path, Query, RequestFingerprint, present,
};
use vidserver::problem::Problem;
use vidserver::server::{Drained, Server, Stop};

/// No wait of a test is longer: what has not happened by then never will.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

/// What the routes of the tests share.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    /// A request to `/api/v1/gate` waits for a permit.
    pub(crate) gate: Arc<Semaphore>,
    /// One permit per request that has reached the gate.
    pub(crate) arrived: Arc<Semaphore>,
    fingerprint: Arc<dyn RequestFingerprint>,
}

/// Tells requests apart; that the real one is keyed is the business of the platform's key ring.
#[derive(Debug)]
struct PlainFingerprint;

impl RequestFingerprint for PlainFingerprint {
    fn fingerprint(&self, method: &Method, target: &str, body: &[u8]) -> [u8; 32] {
        sha256(format!("{method} {target} {}", hex::encode(body)).as_bytes())
    }
}

impl FromRef<Shared> for Arc<dyn RequestFingerprint> {
    fn from_ref(shared: &Shared) -> Self {
        shared.fingerprint.clone()
    }
}

/// A running server.
#[derive(Debug)]
pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    pub(crate) shared: Shared,
    pub(crate) stop: Stop,
    pub(crate) run: JoinHandle<Drained>,
    pub(crate) client: reqwest::Client,
}

impl TestServer {
    pub(crate) async fn start() -> Self {
        Self::with(|_, _| {}).await
    }

    /// A server whose settings were changed first.
    pub(crate) async fn with(change: impl FnOnce(&mut ServerSettings, &mut HttpSettings)) -> Self {
        Self::at("http://localhost", change).await
    }

    /// A server that believes it is reached under `public_url`.
    pub(crate) async fn at(public_url: &str, change: impl FnOnce(&mut ServerSettings, &mut HttpSettings)) -> Self {
        let (mut server, mut http) = (ServerSettings::default(), HttpSettings::default());
        change(&mut server, &mut http);
        let shared = Shared {
            gate: Arc::new(Semaphore::new(0)),
            arrived: Arc::new(Semaphore::new(0)),
            fingerprint: Arc::new(PlainFingerprint),
        };
        let public_url = PublicUrl::parse(public_url).expect("a URL");
        let app = assemble(stacks(), shared.clone(), &Edge::new(http, public_url));
        let server =
            Server::bind(SocketAddr::from(([127, 0, 0, 1], 0)), server, app.router).await.expect("a free port");
        let (address, stop) = (server.local_addr(), Stop::new());
        let run = tokio::spawn(server.run(stop.clone()));
        Self { address, shared, stop, run, client: reqwest::Client::new() }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) async fn connect(&self) -> Raw {
        Raw(TcpStream::connect(self.address).await.expect("the server listens"))
    }

    pub(crate) async fn get(&self, path: &str) -> reqwest::Response {
        self.client.get(self.url(path)).send().await.expect("an answer")
    }

    /// Waits until a request stands at the gate.
    pub(crate) async fn someone_at_the_gate(&self) {
        bounded(self.shared.arrived.acquire()).await.expect("never closed").forget();
    }
}

/// Fails the test instead of waiting for ever.
pub(crate) async fn bounded<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(BOUND, future).await.expect("it happens within the bound")
}

/// A socket whose bytes the test writes itself.
#[derive(Debug)]
pub(crate) struct Raw(pub TcpStream);

impl Raw {
    pub(crate) async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.expect("the server takes it");
    }

    /// Everything until the server closes; a reset counts as a close.
    pub(crate) async fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            match bounded(self.0.read(&mut buffer)).await {
                Ok(0) | Err(_) => return String::from_utf8_lossy(&bytes).into_owned(),
                Ok(read) => bytes.extend_from_slice(&buffer[..read]),
            }
        }
    }

    /// One answer with a `Content-Length`: its head and its body.
    pub(crate) async fn answer(&mut self) -> (String, String) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(bounded(self.0.read_u8()).await.expect("a whole head"));
        }
        let head = String::from_utf8(head).expect("a head is text");
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        bounded(self.0.read_exact(&mut body)).await.expect("a whole body");
        (head, String::from_utf8(body).expect("a body is text"))
    }
}

/// A body with rules.
#[derive(Debug, Serialize, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct Note {
    #[garde(length(chars, min = 1, max = 10))]
    pub(crate) title: String,
    #[garde(skip)]
    #[serde(default)]
    pub(crate) tags: Vec<String>,
}

#[derive(Debug, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
struct NotePatch {
    #[garde(skip)]
    #[serde(default, deserialize_with = "present")]
    subtitle: Option<Option<String>>,
}

#[derive(Debug, Deserialize, Validate)]
#[serde(deny_unknown_fields)]
struct Paging {
    #[garde(range(min = 1, max = 100))]
    limit: Option<u16>,
}

fn stacks() -> Stacks<Shared> {
    let mut stacks = Stacks::default();
    stacks.ops = stacks.ops.routes(utoipa_axum::routes!(vidserver::routes::ops::healthz));
    stacks.api = stacks
        .api
        .route("/api/v1/notes", post(create).get(list))
        .route("/api/v1/notes/{id}", patch(change).get(read))
        .route("/api/v1/gate", get(gate))
        .route("/api/v1/panic", get(panics))
        .route("/api/v1/failure", get(failure))
        .route("/api/v1/nested/{id}", get(|Path(id): Path<VideoId>| async move { id.to_string() }));
    stacks.bytes = stacks.bytes.route("/api/v1/bytes", put(sink).get(flood));
    stacks
}

async fn create(note: Keyed<Json<Note>>) -> impl IntoResponse {
    let key = note.key.map(|key| key.scoped("user_x"));
    let print = key.map(|key| format!("{} {:02x}{:02x}", key.scope, key.fingerprint[0], key.fingerprint[1]));
    (StatusCode::CREATED, [("x-key", print.unwrap_or_default())], axum::Json(note.body.0))
}

async fn list(Query(paging): Query<Paging>, if_none_match: IfNoneMatch) -> impl IntoResponse {
    let tag = EntityTag::of_list("0123456789abcdef");
    let headers = [(header::ETAG, tag.header_value())];
    if if_none_match.holds(&tag) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, axum::Json(vec!["note"; usize::from(paging.limit.unwrap_or(100)) * 10])).into_response()
}

async fn read() -> impl IntoResponse {
    let tag = EntityTag::of_version(3, "0123456789abcdef");
    ([(header::ETAG, tag.header_value())], axum::Json(vec!["note"; 1000]))
}

async fn change(if_match: IfMatch, MergePatch(patch): MergePatch<NotePatch>) -> Result<impl IntoResponse, Problem> {
    let expected = if_match.required()?;
    if expected.is_some_and(|version| version != 3) {
        return Err(vidcore::catalog::CatalogError::VersionMismatch { current: 3 }.into());
    }
    Ok(format!("{:?}", patch.subtitle))
}

async fn gate(State(shared): State<Shared>) -> &'static str {
    shared.arrived.add_permits(1);
    shared.gate.acquire().await.expect("never closed").forget();
    "passed"
}

async fn panics() -> &'static str {
    panic!("hunter2 in a panic")
}

async fn failure() -> Problem {
    Problem::internal(std::io::Error::other("hunter2 in an error"))
}

async fn sink(body: Body) -> Result<String, Problem> {
    let mut stream = body.into_data_stream();
    let mut received = 0;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| Problem::from(vidcore::storage::UploadError::BrokenOff(Box::new(error))))?;
        received += chunk.len();
    }
    Ok(received.to_string())
}

/// More than any socket buffers.
async fn flood(headers: HeaderMap) -> Body {
    let chunks = headers.get("x-chunks").and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(4096);
    let chunks = stream::iter(std::iter::repeat_n(Bytes::from_static(&[7; 65_536]), chunks));
    Body::from_stream(chunks.map(Ok::<_, std::io::Error>))
}
