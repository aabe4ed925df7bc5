//! `GET /jobs/{id}`

use axum::extract::State;
use axum::response::Response;
use vidcore::cache::Cached;
use vidcore::id::JobId;
use vidcore::jobs::JobWithHistory;

use crate::extract::{Caller, IfNoneMatch, Path};
use crate::problem::{Problem, ProblemBody};
use crate::routes::render::Audience;
use crate::routes::{ApiState, render};

/// One job, with what came of it so far
#[utoipa::path(
    get, path = "/jobs/{id}", tag = "jobs", operation_id = "read_job", security(("bearer" = [])),
    params(("id" = JobId, Path, description = "The job")),
    responses(
        (status = 200, description = "The job", body = JobWithHistory),
        (status = 304, description = "The caller holds it already"),
        (status = 401, description = "`unauthenticated`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "`not_found`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get(
    State(state): State<ApiState>,
    Path(id): Path<JobId>,
    Caller(actor): Caller,
    held: IfNoneMatch,
) -> Result<Response, Problem> {
    let job = state.platform.jobs().read(&actor, id).await?;
    Ok(render::list(&Cached::new(job), &held, Audience::Caller))
}
