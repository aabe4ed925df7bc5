//! `GET /uploads/{id}`

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use vidcore::id::UploadId;
use vidcore::storage::UploadView;

use crate::extract::{Caller, Path};
use crate::problem::{Problem, ProblemBody};
use crate::routes::{ApiState, render};

/// An upload of the caller's
#[utoipa::path(
    get, path = "/uploads/{id}", tag = "uploads", operation_id = "read_upload", security(("bearer" = [])),
    params(("id" = UploadId, Path, description = "The upload")),
    responses(
        (status = 200, description = "The upload", body = UploadView),
        (status = 401, description = "`unauthenticated`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "`not_found`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get(
    State(state): State<ApiState>,
    Path(id): Path<UploadId>,
    Caller(actor): Caller,
) -> Result<Response, Problem> {
    Ok(render::secret(StatusCode::OK, &state.platform.uploads().read(&actor, id).await?))
}
