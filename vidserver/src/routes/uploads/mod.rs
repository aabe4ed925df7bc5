//! `/uploads`

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use vidcore::rate_limit::RouteClass;

use crate::middleware::admission::limited;
use crate::routes::ApiState;

pub mod abort;
pub mod complete;
pub mod get;
pub mod open;
pub mod parts;
pub mod put_bytes;

/// The JSON routes of this folder under `/api/v1`.
pub(crate) fn api_router() -> OpenApiRouter<ApiState> {
    let writes = OpenApiRouter::new()
        .routes(routes!(open::open))
        .routes(routes!(abort::abort))
        .routes(routes!(complete::complete));
    let reads = OpenApiRouter::new().routes(routes!(get::get)).routes(routes!(parts::list));
    // Large files have many parts: they are counted as pieces are.
    limited(writes, RouteClass::Write)
        .merge(limited(reads, RouteClass::Read))
        .merge(limited(OpenApiRouter::new().routes(routes!(parts::sign)), RouteClass::Append))
}

/// The byte routes of this folder under `/api/v1`.
pub(crate) fn bytes_router() -> OpenApiRouter<ApiState> {
    limited(OpenApiRouter::new().routes(routes!(put_bytes::put_bytes)), RouteClass::Upload)
}
