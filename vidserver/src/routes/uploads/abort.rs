//! `DELETE /uploads/{id}`

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use vidcore::id::UploadId;
use vidcore::storage::UploadView;

use crate::extract::{Caller, Empty, Keyed, Path};
use crate::problem::{Problem, ProblemBody};
use crate::routes::{ApiState, render};

/// Gives an open upload up
///
/// Its reservation is free at once.
#[utoipa::path(
    delete, path = "/uploads/{id}", tag = "uploads", operation_id = "abort_upload", security(("bearer" = [])),
    params(
        ("id" = UploadId, Path, description = "The upload"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repeated request one"),
    ),
    responses(
        (status = 200, description = "The aborted upload", body = UploadView),
        (status = 401, description = "`unauthenticated`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "`not_found`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "`wrong_state`, `request_in_progress`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn abort(
    State(state): State<ApiState>,
    Path(id): Path<UploadId>,
    Caller(actor): Caller,
    keyed: Keyed<Empty>,
) -> Result<Response, Problem> {
    let running = state.in_progress.begin(keyed.key, &actor.user.to_string())?;
    let upload = state.platform.uploads().abort(&actor, id, running.key()).await?.into_inner();
    Ok(render::secret(StatusCode::OK, &upload))
}
