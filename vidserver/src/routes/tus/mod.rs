//! `/uploads/tus`: the tus resumable upload protocol, version 1.0.0 (tus.io), with the extensions creation (with upload,
//! with a deferred length), expiration, checksum, termination and concatenation.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use vidcore::rate_limit::RouteClass;

use crate::middleware::admission::limited;
use crate::routes::ApiState;

pub mod append;
mod concat;
pub mod create;
mod headers;
mod metadata;
pub mod over;
pub mod status;
pub mod terminate;

/// The routes of this folder under `/api/v1`.
pub(crate) fn router() -> OpenApiRouter<ApiState> {
    let upload = OpenApiRouter::new().routes(routes!(create::create));
    let one = OpenApiRouter::new()
        .routes(routes!(append::append))
        .routes(routes!(status::status))
        .routes(routes!(terminate::terminate))
        .routes(routes!(over::over));
    let options = OpenApiRouter::new().routes(routes!(describe)).routes(routes!(describe_one));
    limited(upload, RouteClass::Upload).merge(limited(one, RouteClass::Append)).merge(options)
}

/// What of the tus protocol is supported
#[utoipa::path(
    options, path = "/uploads/tus", tag = "uploads", operation_id = "describe_tus",
    responses((status = 200, description = "`Tus-Version`, `Tus-Extension`, `Tus-Max-Size`, `Tus-Checksum-Algorithm`"))
)]
async fn describe() -> Response {
    StatusCode::OK.into_response()
}

/// What of the tus protocol is supported, asked of one upload
#[utoipa::path(
    options, path = "/uploads/tus/{id}", tag = "uploads", operation_id = "describe_tus_upload",
    params(("id" = String, Path, description = "Any text")),
    responses((status = 200, description = "`Tus-Version`, `Tus-Extension`, `Tus-Max-Size`, `Tus-Checksum-Algorithm`"))
)]
async fn describe_one() -> Response {
    StatusCode::OK.into_response()
}
