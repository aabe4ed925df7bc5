//! A small client of the API that does what a client should: it waits when told to.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, RANGE, RETRY_AFTER};
use indicatif::ProgressBar;
use reqwest::{RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::io::ReaderStream;

use crate::cli::CommandError;

/// Bytes sent at a time.
const CHUNK: usize = 64 << 10;

/// Answers of 429 and 503 that are waited for before giving up.
const PATIENCE: u32 = 10;

/// The longest `Retry-After` that is waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

/// How long a request may go without a byte.
const SILENCE: Duration = Duration::from_secs(60);

/// Where the bytes of an upload come from.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// A file.
    File {
        /// Where it is.
        path: PathBuf,
        /// How large it is.
        size_bytes: u64,
    },
    /// Bytes of the program itself.
    Memory(Bytes),
}

impl Source {
    pub(super) fn size_bytes(&self) -> u64 {
        match self {
            Self::File { size_bytes, .. } => *size_bytes,
            Self::Memory(bytes) => bytes.len() as u64,
        }
    }

    async fn body(&self, bar: ProgressBar) -> std::io::Result<reqwest::Body> {
        bar.set_position(0);
        let count = move |chunk: &std::io::Result<Bytes>| bar.inc(chunk.as_ref().map_or(0, |bytes| bytes.len() as u64));
        Ok(match self {
            Self::File { path, .. } => {
                let file = tokio::fs::File::open(path).await?;
                reqwest::Body::wrap_stream(ReaderStream::with_capacity(file, CHUNK).inspect(count))
            }
            Self::Memory(bytes) => {
                let mut rest = bytes.clone();
                let chunks =
                    std::iter::from_fn(move || (!rest.is_empty()).then(|| Ok(rest.split_to(rest.len().min(CHUNK)))));
                reqwest::Body::wrap_stream(stream::iter(chunks).inspect(count))
            }
        })
    }
}

/// Talks to one server.
#[derive(Debug, Clone)]
pub(super) struct ApiClient {
    http: reqwest::Client,
    origin: String,
    prefix: String,
    token: Option<String>,
}

impl ApiClient {
    pub(super) fn new(origin: &str, prefix: &str) -> Result<Self, CommandError> {
        let http = reqwest::Client::builder().no_proxy().read_timeout(SILENCE).build()?;
        Ok(Self { http, origin: origin.to_owned(), prefix: prefix.to_owned(), token: None })
    }

    /// Sends `token` with every request from now on.
    pub(super) fn authorize(&mut self, token: &str) {
        self.token = Some(token.to_owned());
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CommandError> {
        let answer = self.send(&format!("GET {path}"), || self.authorized(self.http.get(self.api(path)))).await?;
        Ok(answer.json().await?)
    }

    pub(super) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, CommandError> {
        let request = || self.authorized(self.http.post(self.api(path)).json(body));
        Ok(self.send(&format!("POST {path}"), request).await?.json().await?)
    }

    pub(super) async fn post_empty(&self, path: &str) -> Result<(), CommandError> {
        self.send(&format!("POST {path}"), || self.authorized(self.http.post(self.api(path)))).await.map(|_| ())
    }

    /// Puts bytes to a path the server named. The URL is its own credential, so no token goes along.
    pub(super) async fn put(&self, url: &str, source: Source, bar: &ProgressBar) -> Result<(), CommandError> {
        for _ in 0..PATIENCE {
            let request = self
                .http
                .put(format!("{}{url}", self.origin))
                .header(CONTENT_TYPE, "application/octet-stream")
                .header(CONTENT_LENGTH, source.size_bytes())
                .body(source.body(bar.clone()).await?);
            let answer = request.send().await?;
            match wait_asked(&answer) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return checked("PUT of the bytes", answer).await.map(|_| ()),
            }
        }
        Err("the server keeps asking to wait with the upload".into())
    }

    /// Fetches a path the server named, whole or in part.
    pub(super) async fn fetch(&self, url: &str, range: Option<&str>) -> Result<(StatusCode, Bytes), CommandError> {
        let request = || {
            let request = self.http.get(format!("{}{url}", self.origin));
            match range {
                Some(range) => request.header(RANGE, range),
                None => request,
            }
        };
        let answer = self.send(&format!("GET {url}"), request).await?;
        Ok((answer.status(), answer.bytes().await?))
    }

    fn api(&self, path: &str) -> String {
        format!("{}{}{path}", self.origin, self.prefix)
    }

    fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends a request, again after each `Retry-After`, and insists on success.
    async fn send(&self, what: &str, request: impl Fn() -> RequestBuilder) -> Result<Response, CommandError> {
        for _ in 0..PATIENCE {
            let answer = request().send().await?;
            match wait_asked(&answer) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return checked(what, answer).await,
            }
        }
        Err(format!("the server keeps asking to wait: {what}").into())
    }
}

/// How long a 429 or 503 asks to wait (RFC 9110 §10.2.3).
fn wait_asked(answer: &Response) -> Option<Duration> {
    let busy = matches!(answer.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    let seconds = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    busy.then(|| Duration::from_secs(seconds).min(LONGEST_WAIT))
}

async fn checked(what: &str, answer: Response) -> Result<Response, CommandError> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let body = answer.text().await.unwrap_or_default();
    Err(format!("{what} was answered {status}: {body}").into())
}
