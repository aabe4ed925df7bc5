//! `GET /videos/trending`

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

/// The public videos on the rise
///
/// A view counts for some hours, and the more the younger its video. At most 1,000, from the cache. All pages are
/// of the order in which the first one found them, for ten minutes.
#[utoipa::path(
    get, path = "/videos/trending", tag = "videos", operation_id = "trending_videos", params(Paging),
    responses(
        (status = 200, description = "A page, best first; it may hold fewer than `limit`", body = Page<VideoView>),
        (status = 304, description = "The caller holds it already"),
        (status = 400, description = "`bad_cursor`, `invalid_query`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn trending(
    State(state): State<ApiState>,
    Query(Paging { limit, cursor }): Query<Paging>,
    uri: Uri,
    held: IfNoneMatch,
) -> Result<Response, Problem> {
    let page = state.platform.catalog().trending(cursor.as_deref(), paging::limit(limit)).await?;
    Ok(render::cached_page(&page, state.platform.links(), &uri, &held, Audience::Everybody))
}
