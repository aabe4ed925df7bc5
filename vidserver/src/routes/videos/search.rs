//! `GET /search`

use axum::extract::{Request, State};
use axum::response::Response;
use garde::Validate;
use http::Uri;
use serde::Deserialize;
use utoipa::IntoParams;
use vidcore::catalog::CatalogError;
use vidcore::catalog::view::VideoView;
use vidcore::invalid::FieldProblem;
use vidcore::page::Page;
use vidcore::rate_limit::CostlyCall;

use crate::extract::{IfNoneMatch, Query};
use crate::problem::{FieldError, Problem, ProblemBody, code};
use crate::routes::render::Audience;
use crate::routes::{ApiState, paging, render};

/// What to look for.
#[derive(Debug, Deserialize, Validate, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Search {
    /// Words that must all occur in title, description or tags; the last one may be a beginning.
    #[garde(length(chars, min = 1, max = 200))]
    #[param(min_length = 1, max_length = 200)]
    pub q: String,
    /// Items per page, 1 to 100; 20 by default.
    #[garde(range(min = 1, max = 100))]
    #[param(minimum = 1, maximum = 100, default = 20)]
    pub limit: Option<u16>,
    /// `next_cursor` of the page before.
    #[garde(length(max = 200))]
    #[param(max_length = 200)]
    pub cursor: Option<String>,
}

/// Public videos that match, best first
///
/// At most 1,000 are reachable. The list is sorted by a score, so pages may repeat or skip when the
/// catalog changes between them.
#[utoipa::path(
    get, path = "/search", tag = "videos", operation_id = "search_videos", params(Search),
    responses(
        (status = 200, description = "A page", body = Page<VideoView>),
        (status = 304, description = "The caller holds it already"),
        (status = 400, description = "`bad_cursor`, `invalid_query`, also for a text without a letter or digit", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn search(
    State(state): State<ApiState>,
    Query(Search { q, limit, cursor }): Query<Search>,
    uri: Uri,
    held: IfNoneMatch,
) -> Result<Response, Problem> {
    let found = state.platform.catalog().search(&q, cursor.as_deref(), paging::limit(limit)).await;
    let page = found.map_err(refusal)?;
    Ok(render::cached_page(&page, state.platform.links(), &uri, &held, Audience::Everybody))
}

/// A page with a cursor is a later one. Seen before the query is parsed: anything like a cursor counts.
pub(super) fn cost(request: &Request) -> Option<CostlyCall> {
    let query = request.uri().query().unwrap_or_default();
    query.split('&').any(|pair| pair.starts_with("cursor=")).then_some(CostlyCall::SearchFurther)
}

/// What the library finds wrong with the text is wrong with a parameter here, not with a body.
fn refusal(error: CatalogError) -> Problem {
    match error {
        CatalogError::Invalid(problems) => {
            let parameter = |problem: FieldProblem| FieldError {
                pointer: format!("?{}", problem.field.trim_start_matches('/')),
                detail: problem.message,
            };
            Problem::new(code::INVALID_QUERY).errors(problems.into_iter().map(parameter).collect())
        }
        error => error.into(),
    }
}
