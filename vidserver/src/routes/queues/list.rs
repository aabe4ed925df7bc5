//! `GET /queues`

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;
use vidcore::cache::Cached;
use vidcore::jobs::QueueStats;

use crate::extract::{Caller, IfNoneMatch};
use crate::problem::{Problem, ProblemBody};
use crate::routes::render::Audience;
use crate::routes::{ApiState, render};

/// Answer of `/queues`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Queues {
    /// Every queue that has jobs or is paused, by name.
    pub items: Vec<QueueStats>,
}

/// How full each queue is
///
/// For administrators.
#[utoipa::path(
    get, path = "/queues", tag = "jobs", operation_id = "list_queues", security(("bearer" = [])),
    responses(
        (status = 200, description = "The queues", body = Queues),
        (status = 304, description = "The caller holds it already"),
        (status = 401, description = "`unauthenticated`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "`forbidden`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list(
    State(state): State<ApiState>,
    Caller(actor): Caller,
    held: IfNoneMatch,
) -> Result<Response, Problem> {
    let items = state.platform.jobs().queues(&actor).await?;
    Ok(render::list(&Cached::new(Queues { items }), &held, Audience::Caller))
}
