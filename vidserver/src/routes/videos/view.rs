//! `POST /videos/{id}/views`

use axum::extract::State;
use http::StatusCode;
use vidcore::id::VideoId;

use crate::extract::{Empty, Path};
use crate::problem::{Problem, ProblemBody};
use crate::routes::ApiState;

/// Counts one view of a public or unlisted video
#[utoipa::path(
    post, path = "/videos/{id}/views", tag = "videos", operation_id = "count_view",
    params(("id" = VideoId, Path, description = "The video")),
    responses(
        (status = 204, description = "Counted"),
        (status = 404, description = "`not_found`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn view(
    State(state): State<ApiState>,
    Path(id): Path<VideoId>,
    _: Empty,
) -> Result<StatusCode, Problem> {
    state.platform.catalog().count_view(id).await?;
    Ok(StatusCode::NO_CONTENT)
}
