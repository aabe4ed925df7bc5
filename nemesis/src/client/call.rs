//! One HTTP call, and what its outcome means.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use tokio::sync::watch;

use crate::history::{Entry, History, Outcome};
use crate::{BOUND, Failure};

/// How long a client waits for one answer: less than a server may be frozen.
const PATIENCE: Duration = Duration::from_secs(4);

/// How long a client waits before it tries again.
const PAUSE: Duration = Duration::from_millis(30);

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its body, if it is JSON.
    pub body: Value,
    /// Its `ETag`.
    pub etag: Option<String>,
}

impl Answer {
    /// A member of the body that is a text; empty if it is none.
    pub fn text(&self, member: &str) -> String {
        self.body[member].as_str().unwrap_or_default().to_owned()
    }

    /// Whether it says that the call was carried out.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// An answer that tells something.
    Answer(Answer),
    /// It was sent and may have happened: no answer, or one of a server in trouble.
    Lost(Option<u16>),
    /// It was not sent.
    NotSent,
}

/// A call to be made, as often as it takes.
#[derive(Debug, Clone)]
pub struct Call {
    /// Its name in the history.
    pub name: &'static str,
    /// The HTTP method.
    pub method: Method,
    /// The path under the server's root.
    pub path: String,
    /// A JSON body.
    pub body: Option<Value>,
    /// An idempotency key.
    pub key: Option<String>,
    /// `If-Match`.
    pub if_match: Option<String>,
    /// What it is about.
    pub subject: String,
}

impl Call {
    /// A call without body, key and condition.
    pub fn new(name: &'static str, method: Method, path: impl Into<String>, subject: &str) -> Self {
        let subject = subject.to_owned();
        Self { name, method, path: path.into(), body: None, key: None, if_match: None, subject }
    }

    /// With a JSON body.
    #[must_use]
    pub fn body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    /// With an idempotency key: repeating it is safe.
    #[must_use]
    pub fn key(mut self, key: String) -> Self {
        self.key = Some(key);
        self
    }
}

/// Makes calls for one user.
#[derive(Debug, Clone)]
pub struct Caller {
    http: reqwest::Client,
    server: watch::Receiver<Option<SocketAddr>>,
    history: Arc<History>,
    user: usize,
    /// Sent with every call once it is known.
    pub token: String,
}

impl Caller {
    /// Calls in the name of user number `user` whatever server there is.
    ///
    /// # Errors
    /// The HTTP client cannot be made.
    pub fn new(
        server: watch::Receiver<Option<SocketAddr>>,
        history: Arc<History>,
        user: usize,
    ) -> Result<Self, Failure> {
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?;
        Ok(Self { http, server, history, user, token: String::new() })
    }

    /// Makes the call once and writes down what came of it; `promised` tells what an answer promises.
    pub async fn once(&self, call: &Call, promised: impl Fn(&Answer) -> Option<String>) -> Reply {
        let request = |address: SocketAddr| {
            let mut request = self.http.request(call.method.clone(), format!("http://{address}{}", call.path));
            if let Some(body) = &call.body {
                // Also for merge patches: plain JSON is accepted for them.
                request = request.json(body);
            }
            if let Some(key) = &call.key {
                request = request.header("idempotency-key", key);
            }
            if let Some(tag) = &call.if_match {
                request = request.header("if-match", tag);
            }
            request
        };
        let reply = self.send(request).await;
        self.note(call, &reply, promised);
        reply
    }

    /// Makes the call until it is answered by a server that is not in trouble.
    ///
    /// # Errors
    /// There is no such answer within the bound.
    pub async fn persist(&self, call: &Call, promised: impl Fn(&Answer) -> Option<String>) -> Result<Answer, Failure> {
        let begun = Instant::now();
        loop {
            if let Reply::Answer(answer) = self.once(call, &promised).await {
                return Ok(answer);
            }
            if begun.elapsed() > BOUND {
                return Err(format!("{} of {} is not answered", call.name, call.subject).into());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Reads a resource, as often as it takes.
    ///
    /// # Errors
    /// As [`persist`](Self::persist).
    pub async fn read(&self, path: &str) -> Result<Answer, Failure> {
        let begun = Instant::now();
        loop {
            if let Reply::Answer(answer) = self.send(|at| self.http.get(format!("http://{at}{path}"))).await {
                return Ok(answer);
            }
            if begun.elapsed() > BOUND {
                return Err(format!("GET {path} is not answered").into());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Sends bytes to a signed URL once.
    pub async fn put(&self, call: &Call, body: reqwest::Body, promised: impl Fn(&Answer) -> Option<String>) -> Reply {
        let mut body = Some(body);
        let request = |at| self.http.put(format!("http://{at}{}", call.path)).body(body.take().unwrap_or_default());
        let reply = self.send(request).await;
        self.note(call, &reply, promised);
        reply
    }

    /// Fetches bytes that are played, as often as it takes.
    ///
    /// # Errors
    /// As [`persist`](Self::persist).
    pub async fn fetch(&self, path: &str) -> Result<(u16, Bytes), Failure> {
        let begun = Instant::now();
        loop {
            if let Some(address) = *self.server.borrow()
                && let Ok(answer) = self.http.get(format!("http://{address}{path}")).send().await
            {
                let status = answer.status().as_u16();
                if status < 500
                    && let Ok(bytes) = answer.bytes().await
                {
                    return Ok((status, bytes));
                }
            }
            if begun.elapsed() > BOUND {
                return Err(format!("GET {path} is not answered").into());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn send(&self, request: impl FnOnce(SocketAddr) -> RequestBuilder) -> Reply {
        let address = *self.server.borrow();
        let Some(address) = address else { return Reply::NotSent };
        let mut request = request(address);
        if !self.token.is_empty() {
            request = request.bearer_auth(&self.token);
        }
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) if error.is_connect() => return Reply::NotSent,
            Err(_) => return Reply::Lost(None),
        };
        let status = answer.status().as_u16();
        let etag = answer.headers().get("etag").and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        let Ok(bytes) = answer.bytes().await else { return Reply::Lost(Some(status)) };
        let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        // A request that is still running comes of an earlier call whose answer was not waited for.
        if status >= 500 || body["code"] == "request_in_progress" {
            return Reply::Lost(Some(status));
        }
        Reply::Answer(Answer { status, body, etag })
    }

    fn note(&self, call: &Call, reply: &Reply, promised: impl Fn(&Answer) -> Option<String>) {
        let (outcome, status, value) = match reply {
            Reply::Answer(answer) if answer.is_success() => {
                (Outcome::Acknowledged, Some(answer.status), promised(answer))
            }
            Reply::Answer(answer) => (Outcome::Refused, Some(answer.status), Some(answer.text("code"))),
            Reply::Lost(status) => (Outcome::Maybe, *status, None),
            Reply::NotSent => (Outcome::NotSent, None, None),
        };
        self.history.add(Entry {
            at_ms: 0,
            user: self.user,
            call: call.name.to_owned(),
            subject: call.subject.clone(),
            key: call.key.clone(),
            outcome,
            status,
            value,
        });
    }
}
