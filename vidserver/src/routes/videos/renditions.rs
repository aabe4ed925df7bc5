//! `GET /videos/{id}/renditions`

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;
use vidcore::cache::Cached;
use vidcore::catalog::view::RenditionView;
use vidcore::id::VideoId;

use crate::extract::{IfNoneMatch, MaybeCaller, Path};
use crate::problem::{Problem, ProblemBody};
use crate::routes::render::Audience;
use crate::routes::{ApiState, render};

/// Every rendition of a video's current source.
#[derive(Debug, Serialize, ToSchema)]
pub struct Renditions {
    /// Best first; at most 8.
    pub items: Vec<RenditionView>,
}

/// Every rendition of the current source
#[utoipa::path(
    get, path = "/videos/{id}/renditions", tag = "videos", operation_id = "list_renditions",
    security((), ("bearer" = [])),
    params(("id" = VideoId, Path, description = "The video")),
    responses(
        (status = 200, description = "Best first", body = Renditions),
        (status = 304, description = "The caller holds it already"),
        (status = 401, description = "`unauthenticated`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "`not_found`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn renditions(
    State(state): State<ApiState>,
    Path(id): Path<VideoId>,
    MaybeCaller(actor): MaybeCaller,
    held: IfNoneMatch,
) -> Result<Response, Problem> {
    let items = state.platform.catalog().renditions(actor.as_ref(), id).await?;
    Ok(render::list(&Cached::new(Renditions { items }), &held, Audience::of(actor.as_ref())))
}
