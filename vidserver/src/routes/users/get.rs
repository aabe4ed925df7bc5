//! `GET /users/{id}`

use axum::extract::State;
use axum::response::Response;
use vidcore::auth::ProfileView;
use vidcore::id::UserId;

use crate::extract::{IfNoneMatch, Path};
use crate::problem::{Problem, ProblemBody};
use crate::routes::render::Audience;
use crate::routes::{ApiState, render};

/// What anybody may know of an account
#[utoipa::path(
    get, path = "/users/{id}", tag = "users", operation_id = "read_user",
    params(("id" = UserId, Path, description = "The account")),
    responses(
        (status = 200, description = "The profile", body = ProfileView),
        (status = 304, description = "The caller holds it already"),
        (status = 404, description = "`not_found`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get(
    State(state): State<ApiState>,
    Path(id): Path<UserId>,
    held: IfNoneMatch,
) -> Result<Response, Problem> {
    let profile = state.platform.auth().profile(id).await?;
    Ok(render::list(&profile, &held, Audience::Everybody))
}
