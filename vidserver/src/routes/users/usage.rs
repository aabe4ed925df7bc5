//! `GET /users/me/usage`

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use vidcore::storage::UsageView;

use crate::extract::Caller;
use crate::problem::{Problem, ProblemBody};
use crate::routes::{ApiState, render};

/// What the caller's files take up, and the quota
#[utoipa::path(
    get, path = "/users/me/usage", tag = "users", operation_id = "read_usage", security(("bearer" = [])),
    responses(
        (status = 200, description = "Bytes stored and reserved", body = UsageView),
        (status = 401, description = "`unauthenticated`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn usage(State(state): State<ApiState>, Caller(actor): Caller) -> Result<Response, Problem> {
    Ok(render::secret(StatusCode::OK, &state.platform.uploads().usage(&actor).await?))
}
