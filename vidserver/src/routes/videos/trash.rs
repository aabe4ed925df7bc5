//! `DELETE /videos/{id}`

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use vidcore::catalog::view::VideoView;
use vidcore::id::VideoId;

use crate::extract::{Caller, Empty, IfMatch, Keyed, Path};
use crate::problem::{Problem, ProblemBody};
use crate::routes::{ApiState, render};

/// Moves a video to the trash
///
/// It disappears at once, its playback links die, its jobs stop. It can be restored until `purge_at`.
#[utoipa::path(
    delete, path = "/videos/{id}", tag = "videos", operation_id = "trash_video", security(("bearer" = [])),
    params(
        ("id" = VideoId, Path, description = "The video"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that was read"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repeated request one"),
    ),
    responses(
        (status = 200, description = "The trashed video", body = VideoView),
        (status = 401, description = "`unauthenticated`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "`not_found`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "`request_in_progress`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 412, description = "`version_mismatch`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn trash(
    State(state): State<ApiState>,
    Path(id): Path<VideoId>,
    Caller(actor): Caller,
    condition: IfMatch,
    keyed: Keyed<Empty>,
) -> Result<Response, Problem> {
    let running = state.in_progress.begin(keyed.key, &actor.user.to_string())?;
    let video = state.platform.catalog().trash(&actor, id, condition.single()?, running.key()).await?.into_inner();
    Ok(render::changed(StatusCode::OK, video))
}
