//! `GET /admin/cache`

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use vidcore::cache::CacheReport;

use crate::extract::Caller;
use crate::problem::{Problem, ProblemBody};
use crate::routes::{ApiState, render};

/// Answer of `/admin/cache`.
#[derive(Debug, Serialize, ToSchema)]
pub struct CacheReports {
    /// Every cache of the process that answers, by name.
    pub items: Vec<CacheReport>,
}

/// What each cache holds and did
///
/// For administrators. Each process has its own figures: behind a balancer this is one of them.
#[utoipa::path(
    get, path = "/admin/cache", tag = "ops", operation_id = "admin_cache", security(("bearer" = [])),
    responses(
        (status = 200, description = "The caches", body = CacheReports),
        (status = 401, description = "`unauthenticated`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "`forbidden`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn cache(State(state): State<ApiState>, Caller(actor): Caller) -> Result<Response, Problem> {
    let items = state.platform.cache_report(&actor).await?;
    Ok(render::secret(StatusCode::OK, &CacheReports { items }))
}
