//! Routes for operators, and the caller's own limits.

pub mod limits;
pub mod readyz;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::CONTENT_TYPE;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use vidcore::rate_limit::RouteClass;

use crate::middleware::admission::limited;
use crate::routes::ApiState;

/// Answer of `/healthz`.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct Health {
    /// Always `ok`: a process that cannot say so does not answer.
    #[schema(example = "ok")]
    pub status: &'static str,
}

/// Whether the process answers
///
/// Says nothing about the parts behind it; `/readyz` does.
#[utoipa::path(get, path = "/healthz", tag = "ops", operation_id = "healthz",
    responses((status = 200, description = "It does", body = Health)))]
pub async fn healthz() -> axum::Json<Health> {
    axum::Json(Health { status: "ok" })
}

/// The routes of this folder under `/api/v1`.
pub(crate) fn api_router() -> OpenApiRouter<ApiState> {
    limited(OpenApiRouter::new().routes(routes!(limits::limits)), RouteClass::Read)
}

/// The router of the metrics listener: `/metrics` and `/healthz`.
pub fn metrics_router(handle: PrometheusHandle) -> Router {
    Router::new().route("/metrics", get(metrics)).with_state(handle).route("/healthz", get(healthz))
}

/// Prometheus text exposition format 0.0.4.
async fn metrics(State(handle): State<PrometheusHandle>) -> Response {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], crate::metrics::render(&handle)).into_response()
}
