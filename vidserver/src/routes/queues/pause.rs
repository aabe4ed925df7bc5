//! `PUT /queues/{name}/paused`

use axum::extract::State;
use axum::response::Response;
use garde::Validate;
use http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;
use vidcore::jobs::{QueueName, QueueStats};

use crate::extract::{Caller, Json, Keyed, Path};
use crate::problem::{Problem, ProblemBody};
use crate::routes::{ApiState, render};

/// Whether a queue is to rest.
#[derive(Debug, Clone, Copy, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PauseInput {
    /// `true` pauses it, `false` lets it go on.
    #[garde(skip)]
    pub paused: bool,
}

/// Pauses a queue or lets it go on
///
/// For administrators. Nothing of a paused queue is claimed; what runs goes on, and jobs are still taken
/// in. A queue may be paused before it has its first job.
#[utoipa::path(
    put, path = "/queues/{name}/paused", tag = "jobs", operation_id = "pause_queue", security(("bearer" = [])),
    request_body = PauseInput,
    params(
        ("name" = String, Path, description = "The queue", min_length = 1, max_length = 64, pattern = "^[a-z0-9_.-]*$"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repeated request one"),
    ),
    responses(
        (status = 200, description = "The queue as it is now", body = QueueStats),
        (status = 401, description = "`unauthenticated`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "`forbidden`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "`not_found`: no queue can have this name", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "`request_in_progress`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "`body_too_large`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_body`, `idempotency_key_reused`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn pause(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    Caller(actor): Caller,
    keyed: Keyed<Json<PauseInput>>,
) -> Result<Response, Problem> {
    let Json(PauseInput { paused }) = keyed.body;
    let running = state.in_progress.begin(keyed.key, &actor.user.to_string())?;
    let queue = QueueName::new(name);
    let stats = state.platform.jobs().set_paused(&actor, &queue, paused, running.key()).await?.into_inner();
    Ok(render::secret(StatusCode::OK, &stats))
}
