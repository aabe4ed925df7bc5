//! Which pages of other origins may call the API: those that are listed, and no other.

use std::time::Duration;

use http::header::{
    ACCEPT_RANGES, AUTHORIZATION, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_MATCH,
    IF_NONE_MATCH, IF_RANGE, LINK, LOCATION, RANGE, RETRY_AFTER,
};
use http::{HeaderName, HeaderValue, Method};
use tower_http::cors::CorsLayer;

use super::rate_limit::{
    RATE_LIMIT, RATE_LIMIT_POLICY, X_RATE_LIMIT_LIMIT, X_RATE_LIMIT_REMAINING, X_RATE_LIMIT_RESET,
};
use super::request_id::X_REQUEST_ID;
use crate::extract::idempotency::IDEMPOTENCY_KEY;

/// What clients of the tus protocol send.
const TUS_ASKED: [&str; 8] = [
    "tus-resumable",
    "upload-length",
    "upload-offset",
    "upload-defer-length",
    "upload-metadata",
    "upload-checksum",
    "upload-concat",
    "x-http-method-override",
];

/// What they read.
const TUS_TOLD: [&str; 11] = [
    "tus-resumable",
    "tus-version",
    "tus-extension",
    "tus-max-size",
    "tus-checksum-algorithm",
    "upload-offset",
    "upload-length",
    "upload-defer-length",
    "upload-metadata",
    "upload-expires",
    "upload-concat",
];

/// How long a browser may remember a preflight answer.
const MAX_AGE: Duration = Duration::from_secs(600);

/// The layer, or none where no origin is listed: the layer answers every `OPTIONS` itself.
///
/// Credentials are never allowed: tokens travel in `Authorization`, and there are no cookies.
pub(crate) fn cors(origins: &[String]) -> Option<CorsLayer> {
    let origins: Vec<HeaderValue> = origins.iter().filter_map(|origin| origin.parse().ok()).collect();
    if origins.is_empty() {
        return None;
    }
    Some(
        CorsLayer::new()
            .allow_origin(origins)
            .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
            .allow_headers(
                [AUTHORIZATION, CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE, IDEMPOTENCY_KEY, X_REQUEST_ID]
                    .into_iter()
                    .chain(TUS_ASKED.map(HeaderName::from_static))
                    .collect::<Vec<_>>(),
            )
            .expose_headers(
                TUS_TOLD
                    .map(HeaderName::from_static)
                    .into_iter()
                    .chain([
                        ACCEPT_RANGES,
                        CONTENT_DISPOSITION,
                        CONTENT_LENGTH,
                        CONTENT_RANGE,
                        ETAG,
                        LINK,
                        LOCATION,
                        RETRY_AFTER,
                        RATE_LIMIT,
                        RATE_LIMIT_POLICY,
                        X_RATE_LIMIT_LIMIT,
                        X_RATE_LIMIT_REMAINING,
                        X_RATE_LIMIT_RESET,
                        X_REQUEST_ID,
                    ])
                    .collect::<Vec<_>>(),
            )
            .max_age(MAX_AGE),
    )
}
