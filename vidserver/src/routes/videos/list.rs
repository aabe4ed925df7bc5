//! `GET /videos`

use axum::extract::State;
use axum::response::Response;
use http::Uri;
use vidcore::catalog::view::VideoView;
use vidcore::page::Page;

use crate::extract::{IfNoneMatch, Query};
use crate::problem::{Problem, ProblemBody};
use crate::routes::paging::Paging;
use crate::routes::render::Audience;
use crate::routes::{ApiState, paging, render};

/// Public videos, newest first
#[utoipa::path(
    get, path = "/videos", tag = "videos", operation_id = "list_videos", params(Paging),
    responses(
        (status = 200, description = "A page", body = Page<VideoView>),
        (status = 304, description = "The caller holds it already"),
        (status = 400, description = "`bad_cursor`, `invalid_query`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list(
    State(state): State<ApiState>,
    Query(Paging { limit, cursor }): Query<Paging>,
    uri: Uri,
    held: IfNoneMatch,
) -> Result<Response, Problem> {
    let page = state.platform.catalog().public(cursor.as_deref(), paging::limit(limit)).await?;
    Ok(render::page(page, state.platform.links(), &uri, &held, Audience::Everybody))
}
