//! `POST /jobs/replay`

use axum::extract::State;
use axum::response::Response;
use garde::Validate;
use http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;
use vidcore::id::VideoId;
use vidcore::jobs::{JobQuery, QueueName, Replay};

use super::name;
use crate::extract::{Caller, Json, Keyed};
use crate::problem::{Problem, ProblemBody};
use crate::routes::{ApiState, render};

/// Which dead jobs; without a member, all that the caller may see.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayInput {
    /// Only those of this queue.
    #[garde(inner(custom(name)))]
    #[schema(min_length = 1, max_length = 64, pattern = "^[a-z0-9_.-]*$")]
    pub queue: Option<String>,
    /// Only those of this kind.
    #[garde(inner(custom(name)))]
    #[schema(min_length = 1, max_length = 64, pattern = "^[a-z0-9_.-]*$")]
    pub kind: Option<String>,
    /// Only those about this video.
    #[garde(skip)]
    pub video_id: Option<VideoId>,
}

/// Queues dead jobs again, at most 500 of them
///
/// Those about the caller's own videos and uploads; all of them for an administrator. Those that died first
/// go first, each with all its attempts. While `more` is true, the same call with a fresh key goes on.
#[utoipa::path(
    post, path = "/jobs/replay", tag = "jobs", operation_id = "replay_jobs", security(("bearer" = [])),
    request_body = ReplayInput,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repeated request one")),
    responses(
        (status = 200, description = "How many", body = Replay),
        (status = 401, description = "`unauthenticated`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "`request_in_progress`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_body`, `idempotency_key_reused`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn replay(
    State(state): State<ApiState>,
    Caller(actor): Caller,
    keyed: Keyed<Json<ReplayInput>>,
) -> Result<Response, Problem> {
    let Json(ReplayInput { queue, kind, video_id }) = keyed.body;
    let running = state.in_progress.begin(keyed.key, &actor.user.to_string())?;
    let query = JobQuery { state: None, queue: queue.map(QueueName::new), kind, video: video_id };
    let replay = state.platform.jobs().replay(&actor, query, running.key()).await?.into_inner();
    Ok(render::secret(StatusCode::OK, &replay))
}
