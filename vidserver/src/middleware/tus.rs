//! What every answer under `/uploads/tus` says about the protocol, and which requests are not understood.
//!
//! tus resumable upload protocol 1.0.0, "Core Protocol": it stands outside everything that may answer by itself, so that
//! a 401, a 429 and a preflight carry its headers too, and so that all of these see the method that is meant.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::problem::{Problem, code};

/// The only version there is.
pub(crate) const VERSION: &str = "1.0.0";

/// What of the protocol is supported beyond its core.
const EXTENSIONS: &str =
    "creation,creation-with-upload,creation-defer-length,expiration,checksum,termination,concatenation";

/// In the order in which a client should prefer them.
const ALGORITHMS: &str = "sha256,sha1,crc32";

pub(crate) const TUS_RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
pub(crate) const TUS_VERSION: HeaderName = HeaderName::from_static("tus-version");
pub(crate) const TUS_EXTENSION: HeaderName = HeaderName::from_static("tus-extension");
pub(crate) const TUS_MAX_SIZE: HeaderName = HeaderName::from_static("tus-max-size");
pub(crate) const TUS_CHECKSUM_ALGORITHM: HeaderName = HeaderName::from_static("tus-checksum-algorithm");
const X_HTTP_METHOD_OVERRIDE: HeaderName = HeaderName::from_static("x-http-method-override");

/// The largest file that is taken, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MaxSize(pub(crate) u64);

/// Makes the request's method the one that is meant, refuses other versions, and describes this one.
///
/// The router has chosen a path by now and nothing else: the routes of this stack answer whatever method comes.
pub(crate) async fn tus(State(MaxSize(max_size)): State<MaxSize>, mut request: Request, next: Next) -> Response {
    let meant = meant_method(&request);
    let is_options = matches!(meant, Ok(Method::OPTIONS));
    let mut response = match meant {
        Err(problem) => problem.into_response(),
        Ok(_) if !is_options && !is_understood(request.headers()) => unsupported().into_response(),
        Ok(method) => {
            *request.method_mut() = method;
            next.run(request).await
        }
    };
    let headers = response.headers_mut();
    headers.insert(TUS_RESUMABLE, HeaderValue::from_static(VERSION));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if is_options {
        headers.insert(TUS_VERSION, HeaderValue::from_static(VERSION));
        headers.insert(TUS_EXTENSION, HeaderValue::from_static(EXTENSIONS));
        headers.insert(TUS_CHECKSUM_ALGORITHM, HeaderValue::from_static(ALGORITHMS));
        headers.insert(TUS_MAX_SIZE, HeaderValue::from(max_size));
    }
    response
}

/// The method a header names or, without it, that of the request.
fn meant_method(request: &Request) -> Result<Method, Problem> {
    let mut values = request.headers().get_all(X_HTTP_METHOD_OVERRIDE).iter();
    let Some(value) = values.next() else { return Ok(request.method().clone()) };
    let method = Method::from_bytes(value.as_bytes()).ok().filter(|_| values.next().is_none());
    let detail = format!("`{X_HTTP_METHOD_OVERRIDE}` is not the name of one method");
    method.ok_or_else(|| Problem::new(code::BAD_REQUEST).detail(detail))
}

/// Whether the client speaks this version, and says so once.
fn is_understood(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(TUS_RESUMABLE).iter();
    values.next().is_some_and(|held| held == VERSION) && values.next().is_none()
}

fn unsupported() -> Problem {
    Problem::new(code::TUS_VERSION_UNSUPPORTED).header(TUS_VERSION, HeaderValue::from_static(VERSION))
}
