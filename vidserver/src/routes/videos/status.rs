//! `GET /videos/{id}/status`

use axum::extract::State;
use axum::response::Response;
use vidcore::cache::Cached;
use vidcore::catalog::view::StatusView;
use vidcore::id::VideoId;

use crate::extract::{IfNoneMatch, MaybeCaller, Path};
use crate::problem::{Problem, ProblemBody};
use crate::routes::render::Audience;
use crate::routes::{ApiState, render};

/// How far a video is on its way
#[utoipa::path(
    get, path = "/videos/{id}/status", tag = "videos", operation_id = "read_video_status",
    security((), ("bearer" = [])),
    params(("id" = VideoId, Path, description = "The video")),
    responses(
        (status = 200, description = "Status and progress", body = StatusView),
        (status = 304, description = "The caller holds it already"),
        (status = 401, description = "`unauthenticated`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "`not_found`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn status(
    State(state): State<ApiState>,
    Path(id): Path<VideoId>,
    MaybeCaller(actor): MaybeCaller,
    held: IfNoneMatch,
) -> Result<Response, Problem> {
    let status = state.platform.catalog().status(actor.as_ref(), id).await?;
    Ok(render::list(&Cached::new(status), &held, Audience::of(actor.as_ref())))
}
