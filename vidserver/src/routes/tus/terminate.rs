//! `DELETE /uploads/tus/{id}`

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http_body::Body as _;
use vidcore::id::UploadId;

use crate::extract::{Caller, Path};
use crate::problem::{Problem, ProblemBody, code};
use crate::routes::ApiState;

/// Gives a resumable upload up
///
/// What came of it is deleted, and its reservation is free at once. One that is complete is a video's by then.
#[utoipa::path(
    delete, path = "/uploads/tus/{id}", tag = "uploads", operation_id = "terminate_tus_upload", security(("bearer" = [])),
    params(
        ("id" = UploadId, Path, description = "The upload"),
        ("Tus-Resumable" = String, Header, description = "`1.0.0`"),
    ),
    responses(
        (status = 204, description = "It is given up"),
        (status = 401, description = "`unauthenticated`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "`not_found`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "`wrong_state`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 410, description = "`upload_expired`: it was given up before, or its time was over", body = ProblemBody, content_type = "application/problem+json"),
        (status = 412, description = "`tus_version_unsupported`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn terminate(
    State(state): State<ApiState>,
    Path(id): Path<UploadId>,
    Caller(actor): Caller,
    request: Request,
) -> Result<Response, Problem> {
    if !request.body().is_end_stream() {
        return Err(Problem::new(code::BAD_REQUEST).detail("this request takes no body"));
    }
    state.platform.uploads().terminate(&actor, id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
