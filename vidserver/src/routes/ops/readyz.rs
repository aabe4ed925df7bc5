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
    /// `ready`; `degraded` if parts are away that the server goes on without; `unready` if it cannot go on.
    #[schema(example = "ready")]
    pub status: &'static str,
    /// The parts that do not work; empty when ready.
    pub degraded: Vec<&'static str>,
}

/// Whether the parts behind the process work
#[utoipa::path(get, path = "/readyz", tag = "ops", operation_id = "readyz", responses(
    (status = 200, description = "They do, or the server goes on without those that do not", body = Readiness),
    (status = 503, description = "One without which it cannot go on does not", body = Readiness),
))]
pub(crate) async fn readyz(State(state): State<ApiState>) -> Response {
    let mut troubles = state.platform.degraded();
    let (code, status) = match state.platform.check_ready().await {
        Ok(()) if troubles.is_empty() => (StatusCode::OK, "ready"),
        Ok(()) => (StatusCode::OK, "degraded"),
        Err(fatal) => {
            troubles.extend(fatal);
            (StatusCode::SERVICE_UNAVAILABLE, "unready")
        }
    };
    for (part, reason) in &troubles {
        tracing::warn!(part, reason, "a part does not work");
    }
    let degraded = troubles.into_iter().map(|(part, _)| part).collect();
    render::json(code, &Readiness { status, degraded })
}
