//! What the stacks do to each request besides the envelope.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::body_guard::guard_body;
use super::codings;
use crate::config::HttpSettings;
use crate::extract::MaxBody;
use crate::problem::{Problem, code};

/// Seconds after which a request that took too long is worth another try.
const TIMEOUT_RETRY_S: u32 = 5;

/// JSON requests: a bound on bytes, on the body's pace, and on the whole.
///
/// A request that runs out of time is dropped where it waits; what it had already handed to the
/// store may still be committed, which is what `Idempotency-Key` is for.
pub(crate) async fn api_stack(
    State(settings): State<std::sync::Arc<HttpSettings>>,
    request: Request,
    next: Next,
) -> Response {
    let mut request = guard_body(request, settings.body_pace());
    request.extensions_mut().insert(MaxBody(settings.max_body_bytes));
    match tokio::time::timeout(settings.request_timeout(), next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(code::TIMEOUT).retry_after(TIMEOUT_RETRY_S).into_response(),
    }
}

/// Uploads and playback: as long as bytes move, they take the time they take. Bytes are plain ones.
pub(crate) async fn bytes_stack(
    State(settings): State<std::sync::Arc<HttpSettings>>,
    request: Request,
    next: Next,
) -> Response {
    match codings::refuse(&request) {
        Some(problem) => problem.into_response(),
        None => next.run(guard_body(request, settings.body_pace())).await,
    }
}
