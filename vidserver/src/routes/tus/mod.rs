//! `/uploads/tus`: the tus resumable upload protocol, version 1.0.0 (tus.io), with the extensions creation (with upload,
//! with a deferred length), expiration, checksum, termination and concatenation.

use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any};
use http::StatusCode;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};
use utoipa_axum::routes;
use vidcore::rate_limit::RouteClass;

use crate::middleware::admission::limited;
use crate::routes::ApiState;

pub mod append;
mod by_method;
mod concat;
pub mod create;
mod headers;
mod holder;
mod metadata;
pub mod over;
mod place;
pub mod status;
pub mod terminate;

/// The routes of this folder under `/api/v1`.
pub(crate) fn router() -> OpenApiRouter<ApiState> {
    let all = OpenApiRouter::new().routes(answered_by(routes!(create::create, describe), any(by_method::all)));
    let one = routes!(append::append, status::status, terminate::terminate, over::over, describe_one);
    let one = OpenApiRouter::new().routes(answered_by(one, any(by_method::one)));
    limited(all, RouteClass::Upload).merge(limited(one, RouteClass::Append)).route_layer(from_fn(by_method::describe))
}

/// Routes as they are documented, with `router` in their place.
fn answered_by(
    (schemas, paths, _): UtoipaMethodRouter<ApiState>,
    router: MethodRouter<ApiState>,
) -> UtoipaMethodRouter<ApiState> {
    (schemas, paths, router)
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
