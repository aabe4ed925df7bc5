//! `POST /jobs/{id}/cancel`

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use vidcore::id::JobId;
use vidcore::jobs::JobView;

use crate::extract::{Caller, Empty, Keyed, Path};
use crate::problem::{Problem, ProblemBody};
use crate::routes::{ApiState, render};

/// Asks a job to stop
///
/// A queued one is cancelled at once; a running one is told at once and stops soon, at the latest after its
/// next heartbeat.
#[utoipa::path(
    post, path = "/jobs/{id}/cancel", tag = "jobs", operation_id = "cancel_job", security(("bearer" = [])),
    params(
        ("id" = JobId, Path, description = "The job"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repeated request one"),
    ),
    responses(
        (status = 202, description = "The job", body = JobView),
        (status = 401, description = "`unauthenticated`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "`not_found`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "`wrong_state`, `request_in_progress`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn cancel(
    State(state): State<ApiState>,
    Path(id): Path<JobId>,
    Caller(actor): Caller,
    keyed: Keyed<Empty>,
) -> Result<Response, Problem> {
    let running = state.in_progress.begin(keyed.key, &actor.user.to_string())?;
    let job = state.platform.jobs().cancel(&actor, id, running.key()).await?.into_inner();
    Ok(render::secret(StatusCode::ACCEPTED, &job))
}
