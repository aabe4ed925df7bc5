//! `/jobs`

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use vidcore::rate_limit::RouteClass;

use crate::middleware::admission::limited;
use crate::routes::ApiState;

pub mod cancel;
pub mod get;
pub mod list;
pub mod retry;

/// The routes of this folder under `/api/v1`.
pub(crate) fn router() -> OpenApiRouter<ApiState> {
    let reads = OpenApiRouter::new().routes(routes!(list::list)).routes(routes!(get::get));
    let writes = OpenApiRouter::new().routes(routes!(retry::retry)).routes(routes!(cancel::cancel));
    limited(reads, RouteClass::Read).merge(limited(writes, RouteClass::Write))
}
