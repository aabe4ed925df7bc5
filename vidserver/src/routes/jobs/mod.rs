//! `/jobs`

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use vidcore::rate_limit::RouteClass;

use crate::middleware::admission::limited;
use crate::routes::ApiState;

pub mod cancel;
pub mod get;
pub mod list;
pub mod replay;
pub mod retry;

/// The routes of this folder under `/api/v1`.
pub(crate) fn router() -> OpenApiRouter<ApiState> {
    let reads = OpenApiRouter::new().routes(routes!(list::list)).routes(routes!(get::get));
    let writes = OpenApiRouter::new()
        .routes(routes!(replay::replay))
        .routes(routes!(retry::retry))
        .routes(routes!(cancel::cancel));
    limited(reads, RouteClass::Read).merge(limited(writes, RouteClass::Write))
}

/// What queues and kinds are called.
fn name(value: &str, (): &()) -> garde::Result {
    let message = "1 to 64 lower-case letters, digits, underscores, dots and hyphens";
    if vidcore::jobs::is_name(value) { Ok(()) } else { Err(garde::Error::new(message)) }
}
