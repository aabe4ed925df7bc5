//! What every answer under `/uploads/tus` says about the protocol, and which requests are not understood.
//!
//! tus resumable upload protocol 1.0.0, "Core Protocol": it stands outside everything that may answer by itself, so that
//! a 401, a 429 and a preflight carry its headers too.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::CACHE_CONTROL;
use http::{HeaderName, HeaderValue, Method};

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

/// The largest file that is taken, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MaxSize(pub(crate) u64);

/// Refuses other versions, and describes this one.
pub(crate) async fn tus(State(MaxSize(max_size)): State<MaxSize>, request: Request, next: Next) -> Response {
    let is_options = request.method() == Method::OPTIONS;
    let is_understood = is_options || request.headers().get(TUS_RESUMABLE).is_some_and(|held| held == VERSION);
    let mut response = match is_understood {
        true => next.run(request).await,
        false => unsupported().into_response(),
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

fn unsupported() -> Problem {
    Problem::new(code::TUS_VERSION_UNSUPPORTED).header(TUS_VERSION, HeaderValue::from_static(VERSION))
}
