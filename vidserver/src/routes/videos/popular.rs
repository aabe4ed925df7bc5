//! `GET /videos/popular`

use axum::extract::State;
use axum::response::Response;
use garde::Validate;
use http::Uri;
use serde::Deserialize;
use utoipa::IntoParams;
use vidcore::catalog::Window;
use vidcore::catalog::view::VideoView;
use vidcore::page::Page;

use crate::extract::{IfNoneMatch, Query};
use crate::problem::{Problem, ProblemBody};
use crate::routes::render::Audience;
use crate::routes::{ApiState, paging, render};

/// Over which time, and where in the list.
#[derive(Debug, Deserialize, Validate, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Top {
    /// `day`, `week` or `all`; `week` by default. In the first two a view fades and has an eighth of its weight
    /// when it is as old as the window.
    #[garde(skip)]
    #[serde(default)]
    #[param(inline, default = "week")]
    pub window: Window,
    /// Items per page, 1 to 100; 20 by default.
    #[garde(range(min = 1, max = 100))]
    #[param(minimum = 1, maximum = 100, default = 20)]
    pub limit: Option<u16>,
    /// `next_cursor` of the page before.
    #[garde(length(max = 200))]
    #[param(max_length = 200)]
    pub cursor: Option<String>,
}

/// The public videos watched most
///
/// At most 1,000, from the cache. All pages are of the order in which the first one found them, for ten minutes.
#[utoipa::path(
    get, path = "/videos/popular", tag = "videos", operation_id = "popular_videos", params(Top),
    responses(
        (status = 200, description = "A page, best first; it may hold fewer than `limit`", body = Page<VideoView>),
        (status = 304, description = "The caller holds it already"),
        (status = 400, description = "`bad_cursor`, `invalid_query`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn popular(
    State(state): State<ApiState>,
    Query(Top { window, limit, cursor }): Query<Top>,
    uri: Uri,
    held: IfNoneMatch,
) -> Result<Response, Problem> {
    let page = state.platform.catalog().popular(window, cursor.as_deref(), paging::limit(limit)).await?;
    Ok(render::cached_page(&page, state.platform.links(), &uri, &held, Audience::Everybody))
}
