//! `GET /videos/popular`

use axum::extract::State;
use axum::response::Response;
use garde::Validate;
use serde::Deserialize;
use utoipa::IntoParams;
use vidcore::catalog::service::PopularView;

use crate::extract::{IfNoneMatch, Query};
use crate::problem::{Problem, ProblemBody};
use crate::routes::render::Audience;
use crate::routes::{ApiState, paging, render};

/// How many of the most viewed videos.
#[derive(Debug, Deserialize, Validate, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Top {
    /// 1 to 100; 20 by default. There is one page.
    #[garde(range(min = 1, max = 100))]
    #[param(minimum = 1, maximum = 100, default = 20)]
    pub limit: Option<u16>,
}

/// The most viewed public videos, from the cache
#[utoipa::path(
    get, path = "/videos/popular", tag = "videos", operation_id = "popular_videos", params(Top),
    responses(
        (status = 200, description = "Most views first", body = PopularView),
        (status = 304, description = "The caller holds it already"),
        (status = 400, description = "`invalid_query`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn popular(
    State(state): State<ApiState>,
    Query(Top { limit }): Query<Top>,
    held: IfNoneMatch,
) -> Result<Response, Problem> {
    let popular = state.platform.catalog().popular(paging::limit(limit)).await?;
    Ok(render::list(&popular, &held, Audience::Everybody))
}
