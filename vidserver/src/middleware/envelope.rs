//! The outermost layer: id, log line, metrics, security headers, and the last touch to problems.
//!
//! Logs and metrics carry the route's pattern, never the path: paths of playback and signed URLs are
//! credentials.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, Method, StatusCode, Version};
use tracing::Instrument;
use vidcore::entropy::Entropy;

use super::compression::accept_plain;
use super::request_id::{RequestId, X_REQUEST_ID};
use super::security::SecurityHeaders;
use crate::logging::ACCESS;
use crate::metrics::names;
use crate::problem::Problem;

/// The route of a request that matched none.
const NO_ROUTE: &str = "none";

/// What the envelope knows of the server.
#[derive(Debug, Clone)]
pub struct Envelope(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    base_path: String,
    security: SecurityHeaders,
    entropy: Arc<dyn Entropy>,
}

impl Envelope {
    /// An envelope for a server reached under `base_path` (no slash at its end), over TLS or not.
    pub fn new(base_path: String, https: bool, entropy: Arc<dyn Entropy>) -> Self {
        Self(Arc::new(Inner { base_path, security: SecurityHeaders::new(https), entropy }))
    }
}

/// Runs one request inside the envelope.
pub(crate) async fn envelope(State(Envelope(inner)): State<Envelope>, mut request: Request, next: Next) -> Response {
    let id = RequestId::choose(request.headers(), &*inner.entropy);
    request.extensions_mut().insert(id.clone());
    // Here, because it has to stand outside the compression of any stack.
    accept_plain(request.headers_mut());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let span = tracing::info_span!("request", request_id = id.as_str());
    let mut running = Running::start(request.method(), request.version(), route);
    let response = next.run(request).instrument(span.clone()).await;
    let response = span.in_scope(|| {
        let mut response = finish_problem(response, &inner, running.route_if_any(), &id);
        inner.security.apply(response.headers_mut());
        response.headers_mut().insert(X_REQUEST_ID, id.header_value());
        running.finish(&response);
        response
    });
    running.log(response.status(), &id);
    response
}

/// Renders a problem anew with what the route did not know.
fn finish_problem(mut response: Response, inner: &Inner, route: Option<&str>, id: &RequestId) -> Response {
    let Some(problem) = response.extensions_mut().remove::<Problem>() else { return response };
    let body = problem.body(&inner.base_path, route, Some(id.as_str()));
    // What layers between the route and here have added stays; the body's length is another now.
    let headers = std::mem::take(response.headers_mut());
    let mut finished = problem.respond(&body);
    keep_missing(finished.headers_mut(), headers);
    finished
}

fn keep_missing(to: &mut HeaderMap, from: HeaderMap) {
    let added: Vec<_> = from
        .iter()
        .filter(|(name, _)| **name != http::header::CONTENT_LENGTH && !to.contains_key(*name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    for (name, value) in added {
        to.append(name, value);
    }
}

/// One request on its way; counts itself as cancelled if it is dropped unfinished.
struct Running {
    method: &'static str,
    version: Version,
    route: Option<MatchedPath>,
    since: Instant,
    finished: bool,
}

impl Running {
    fn start(method: &Method, version: Version, route: Option<MatchedPath>) -> Self {
        metrics::gauge!(names::IN_FLIGHT).increment(1.0);
        Self { method: method_name(method), version, route, since: Instant::now(), finished: false }
    }

    fn route_if_any(&self) -> Option<&str> {
        self.route.as_ref().map(MatchedPath::as_str)
    }

    fn route(&self) -> String {
        self.route_if_any().unwrap_or(NO_ROUTE).to_owned()
    }

    fn finish(&mut self, response: &Response) {
        self.finished = true;
        self.count(response.status().as_str().to_owned(), self.since.elapsed());
        if let Some(problem) = response.extensions().get::<Problem>() {
            self.log_failure(problem);
        }
    }

    fn count(&self, status: String, elapsed: Duration) {
        let route = self.route();
        metrics::counter!(names::REQUESTS, "method" => self.method, "route" => route.clone(), "status" => status)
            .increment(1);
        metrics::histogram!(names::DURATION, "method" => self.method, "route" => route).record(elapsed);
    }

    /// A failure of the server is logged here, once, with what the client does not see. That a client wants what nobody
    /// has made is none.
    fn log_failure(&self, problem: &Problem) {
        let status = problem.code().status_code();
        if !status.is_server_error() || status == StatusCode::NOT_IMPLEMENTED {
            return;
        }
        let route = self.route_if_any().unwrap_or(NO_ROUTE);
        let cause = problem.source_chain().unwrap_or_default();
        tracing::error!(route, code = problem.code().name, cause, "request failed");
    }

    /// One line for each request. It names its request itself and stands outside the span: for a line
    /// within one, the JSON format parses the span's fields anew.
    fn log(&self, status: StatusCode, id: &RequestId) {
        let elapsed = self.since.elapsed();
        tracing::info!(
            target: ACCESS,
            request_id = id.as_str(),
            method = self.method,
            route = self.route_if_any().unwrap_or(NO_ROUTE),
            status = status.as_u16(),
            duration_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
            version = version_name(self.version),
            "request"
        );
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        metrics::gauge!(names::IN_FLIGHT).decrement(1.0);
        if !self.finished {
            self.count("cancelled".to_owned(), self.since.elapsed());
        }
    }
}

/// A method's name, or `other`: clients may invent methods, labels must stay few.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// As `Debug` shows it, without the way through the formatter.
fn version_name(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_11 => "HTTP/1.1",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "other",
    }
}
