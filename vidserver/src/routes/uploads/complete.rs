//! `POST /uploads/{id}/complete`

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use vidcore::id::UploadId;
use vidcore::storage::UploadView;

use crate::extract::{Caller, Empty, Keyed, Path};
use crate::problem::{Problem, ProblemBody};
use crate::routes::{ApiState, render};

/// Says that all bytes are there
///
/// A job checks them and makes them the video's source. Answered before that is done: poll the upload
/// or the video's status. Calling it again changes nothing.
#[utoipa::path(
    post, path = "/uploads/{id}/complete", tag = "uploads", operation_id = "complete_upload", security(("bearer" = [])),
    params(
        ("id" = UploadId, Path, description = "The upload"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repeated request one"),
    ),
    responses(
        (status = 202, description = "The upload, being verified", body = UploadView),
        (status = 401, description = "`unauthenticated`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "`not_found`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "`no_bytes`, `parts_missing`, `wrong_state`, `request_in_progress`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 410, description = "`upload_expired`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn complete(
    State(state): State<ApiState>,
    Path(id): Path<UploadId>,
    Caller(actor): Caller,
    keyed: Keyed<Empty>,
) -> Result<Response, Problem> {
    let running = state.in_progress.begin(keyed.key, &actor.user.to_string())?;
    let upload = state.platform.uploads().complete(&actor, id, running.key()).await?.into_inner();
    Ok(render::secret(StatusCode::ACCEPTED, &upload))
}
