//! `GET /readyz`

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::routes::{ApiState, render};

/// Answer of `/readyz`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Readiness {
    /// `ready`, or `degraded` with the parts that do not work.
    #[schema(example = "ready")]
    pub status: &'static str,
    /// The parts that do not work; empty when ready.
    pub degraded: Vec<&'static str>,
}

/// Whether the parts behind the process work
#[utoipa::path(get, path = "/readyz", tag = "ops", operation_id = "readyz", responses(
    (status = 200, description = "They do", body = Readiness),
    (status = 503, description = "Some do not", body = Readiness),
))]
pub(crate) async fn readyz(State(state): State<ApiState>) -> Response {
    match state.platform.check_ready().await {
        Ok(()) => render::json(StatusCode::OK, &Readiness { status: "ready", degraded: Vec::new() }),
        Err(troubles) => {
            for (part, reason) in &troubles {
                tracing::warn!(part, reason, "not ready");
            }
            let degraded = troubles.into_iter().map(|(part, _)| part).collect();
            render::json(StatusCode::SERVICE_UNAVAILABLE, &Readiness { status: "degraded", degraded })
        }
    }
}
