//! `POST /videos/{id}/views`

use axum::extract::State;
use http::StatusCode;
use vidcore::catalog::Viewer;
use vidcore::id::VideoId;

use crate::extract::caller::CallerAddress;
use crate::extract::{Empty, MaybeCaller, Path};
use crate::problem::{Problem, ProblemBody};
use crate::routes::ApiState;

/// Counts a view of a public or unlisted video
///
/// Once per viewer and half hour; a viewer is an account, or the network of a caller who is not signed in. A view of
/// the caller's own video is answered and not counted.
#[utoipa::path(
    post, path = "/videos/{id}/views", tag = "videos", operation_id = "count_view",
    security((), ("bearer" = [])),
    params(("id" = VideoId, Path, description = "The video")),
    responses(
        (status = 204, description = "Taken: it shows within a second or so, if it counts"),
        (status = 401, description = "`unauthenticated`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "`not_found`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn view(
    State(state): State<ApiState>,
    Path(id): Path<VideoId>,
    MaybeCaller(actor): MaybeCaller,
    CallerAddress(address): CallerAddress,
    _: Empty,
) -> Result<StatusCode, Problem> {
    let viewer = actor.map_or(Viewer::Network(address.into()), |actor| Viewer::User(actor.user));
    state.platform.catalog().count_view(id, viewer).await?;
    Ok(StatusCode::NO_CONTENT)
}
