//! `POST /videos/{id}/process`

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use vidcore::catalog::view::VideoView;
use vidcore::id::VideoId;

use crate::extract::{Caller, Empty, Keyed, Path};
use crate::problem::{Problem, ProblemBody};
use crate::routes::{ApiState, render};

/// Processes the current source again
///
/// What failed is tried once more, what is ready stays. Answered before the work is done: poll the status.
#[utoipa::path(
    post, path = "/videos/{id}/process", tag = "videos", operation_id = "process_video", security(("bearer" = [])),
    params(
        ("id" = VideoId, Path, description = "The video"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repeated request one"),
    ),
    responses(
        (status = 202, description = "The video as it is now", body = VideoView),
        (status = 401, description = "`unauthenticated`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "`not_found`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "`wrong_state` for a draft, `original_dropped`, `request_in_progress`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn process(
    State(state): State<ApiState>,
    Path(id): Path<VideoId>,
    Caller(actor): Caller,
    keyed: Keyed<Empty>,
) -> Result<Response, Problem> {
    let running = state.in_progress.begin(keyed.key, &actor.user.to_string())?;
    let video = state.platform.catalog().process(&actor, id, running.key()).await?.into_inner();
    Ok(render::changed(StatusCode::ACCEPTED, video))
}
