//! `GET /users/me`

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use vidcore::auth::AccountView;

use crate::extract::{Caller, IfNoneMatch};
use crate::problem::{Problem, ProblemBody};
use crate::routes::{ApiState, render};

/// The caller's own account
#[utoipa::path(
    get, path = "/users/me", tag = "users", operation_id = "read_me", security(("bearer" = [])),
    responses(
        (status = 200, description = "The account", body = AccountView),
        (status = 304, description = "The caller holds it already"),
        (status = 401, description = "`unauthenticated`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn me(
    State(state): State<ApiState>,
    Caller(actor): Caller,
    held: IfNoneMatch,
) -> Result<Response, Problem> {
    let account = state.platform.auth().me(&actor).await?;
    Ok(render::account(StatusCode::OK, account, Some(&held)))
}
