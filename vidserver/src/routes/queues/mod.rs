//! `/queues`

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use vidcore::rate_limit::RouteClass;

use crate::middleware::admission::limited;
use crate::routes::ApiState;

pub mod list;
pub mod pause;

/// The routes of this folder under `/api/v1`.
pub(crate) fn router() -> OpenApiRouter<ApiState> {
    let reads = OpenApiRouter::new().routes(routes!(list::list));
    let writes = OpenApiRouter::new().routes(routes!(pause::pause));
    limited(reads, RouteClass::Read).merge(limited(writes, RouteClass::Write))
}
