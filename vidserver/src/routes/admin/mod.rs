//! Routes for administrators, about one process.

pub mod cache;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use vidcore::rate_limit::RouteClass;

use crate::middleware::admission::limited;
use crate::routes::ApiState;

/// The routes of this folder under `/api/v1`.
pub(crate) fn router() -> OpenApiRouter<ApiState> {
    limited(OpenApiRouter::new().routes(routes!(cache::cache)), RouteClass::Read)
}
