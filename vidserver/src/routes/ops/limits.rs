//! `GET /limits`

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use vidcore::rate_limit::Decision;

use crate::extract::{CallerAddress, MaybeCaller};
use crate::problem::{Problem, ProblemBody};
use crate::routes::{ApiState, render};

/// One limit and what the caller has left of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct LimitView {
    /// Class of routes and who is counted, such as `write.user`.
    #[schema(example = "write.user")]
    pub policy: String,
    /// Calls in any window.
    pub limit: u32,
    /// Length of the window in seconds.
    pub window_s: u64,
    /// Calls that may come at once.
    pub burst: u32,
    /// Calls that would be admitted now.
    pub remaining: u32,
    /// Milliseconds until the whole burst is there again.
    pub reset_after_ms: u64,
}

/// Answer of `/limits`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Limits {
    /// Every limit that counts the caller, by policy name.
    pub items: Vec<LimitView>,
}

/// The limits in force and the caller's own state
#[utoipa::path(get, path = "/limits", tag = "ops", operation_id = "limits", security((), ("bearer" = [])), responses(
    (status = 200, description = "The limits", body = Limits),
    (status = 401, description = "`unauthenticated`", body = ProblemBody, content_type = "application/problem+json"),
    (status = 429, description = "`rate_limited`", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(crate) async fn limits(
    State(state): State<ApiState>,
    MaybeCaller(actor): MaybeCaller,
    CallerAddress(address): CallerAddress,
) -> Result<Response, Problem> {
    let found = state.platform.limiter().state(actor.map(|actor| actor.user), address).await;
    let items = found?.iter().map(view).collect();
    Ok(render::secret(StatusCode::OK, &Limits { items }))
}

fn view(state: &Decision) -> LimitView {
    LimitView {
        policy: state.policy.name().to_owned(),
        limit: state.policy.limit(),
        window_s: state.policy.window().as_secs(),
        burst: state.policy.burst(),
        remaining: state.remaining,
        reset_after_ms: u64::try_from(state.reset_after.as_millis()).unwrap_or(u64::MAX),
    }
}
