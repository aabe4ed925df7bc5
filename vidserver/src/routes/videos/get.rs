//! `GET /videos/{id}`

use axum::extract::State;
use axum::response::Response;
use vidcore::catalog::view::VideoView;
use vidcore::id::VideoId;

use crate::extract::{IfNoneMatch, MaybeCaller, Path};
use crate::problem::{Problem, ProblemBody};
use crate::routes::render::Audience;
use crate::routes::{ApiState, render};

/// One video
///
/// Its owner and moderators see it always; everybody else once it is playable, unless it is private.
#[utoipa::path(
    get, path = "/videos/{id}", tag = "videos", operation_id = "read_video", security((), ("bearer" = [])),
    params(("id" = VideoId, Path, description = "The video")),
    responses(
        (status = 200, description = "The video", body = VideoView),
        (status = 304, description = "The caller holds it already"),
        (status = 401, description = "`unauthenticated`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "`not_found`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get(
    State(state): State<ApiState>,
    Path(id): Path<VideoId>,
    MaybeCaller(actor): MaybeCaller,
    held: IfNoneMatch,
) -> Result<Response, Problem> {
    let video = state.platform.catalog().read(actor.as_ref(), id).await?;
    Ok(render::video(&video, &held, Audience::of(actor.as_ref())))
}
