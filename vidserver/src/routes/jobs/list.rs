//! `GET /jobs`

use axum::extract::State;
use axum::response::Response;
use garde::Validate;
use http::Uri;
use serde::Deserialize;
use utoipa::IntoParams;
use vidcore::id::VideoId;
use vidcore::jobs::{JobQuery, JobState, JobView, QueueName};
use vidcore::page::Page;

use super::name;
use crate::extract::{Caller, IfNoneMatch, Query};
use crate::problem::{Problem, ProblemBody};
use crate::routes::render::Audience;
use crate::routes::{ApiState, paging, render};

/// Which jobs.
#[derive(Debug, Deserialize, Validate, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct JobListing {
    /// Only those in this state.
    #[garde(skip)]
    pub state: Option<JobState>,
    /// Only those of this queue.
    #[garde(inner(custom(name)))]
    #[param(min_length = 1, max_length = 64, pattern = "^[a-z0-9_.-]*$")]
    pub queue: Option<String>,
    /// Only those of this kind.
    #[garde(inner(custom(name)))]
    #[param(min_length = 1, max_length = 64, pattern = "^[a-z0-9_.-]*$")]
    pub kind: Option<String>,
    /// Only those about this video.
    #[garde(skip)]
    pub video_id: Option<VideoId>,
    /// Items per page, 1 to 100; 20 by default.
    #[garde(range(min = 1, max = 100))]
    #[param(minimum = 1, maximum = 100, default = 20)]
    pub limit: Option<u16>,
    /// `next_cursor` of the page before.
    #[garde(length(max = 200))]
    #[param(max_length = 200)]
    pub cursor: Option<String>,
}

/// Jobs, newest first
///
/// Those about the caller's own videos and uploads; all of them for an administrator.
#[utoipa::path(
    get, path = "/jobs", tag = "jobs", operation_id = "list_jobs", security(("bearer" = [])), params(JobListing),
    responses(
        (status = 200, description = "A page", body = Page<JobView>),
        (status = 304, description = "The caller holds it already"),
        (status = 400, description = "`bad_cursor`, `invalid_query`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "`unauthenticated`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list(
    State(state): State<ApiState>,
    Caller(actor): Caller,
    Query(JobListing { state: wanted, queue, kind, video_id, limit, cursor }): Query<JobListing>,
    uri: Uri,
    held: IfNoneMatch,
) -> Result<Response, Problem> {
    let query = JobQuery { state: wanted, queue: queue.map(QueueName::new), kind, video: video_id };
    let page = state.platform.jobs().list(&actor, query, cursor.as_deref(), paging::limit(limit)).await?;
    Ok(render::page(page, state.platform.links(), &uri, &held, Audience::Caller))
}
