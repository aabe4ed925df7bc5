//! `POST /videos/{id}/playback-tokens`

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use garde::Validate;
use http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;
use vidcore::catalog::view::PlaybackLinks;
use vidcore::id::VideoId;

use crate::extract::{Caller, Json, Path};
use crate::problem::{Problem, ProblemBody};
use crate::routes::{ApiState, render};

/// How long the links are to work.
#[derive(Debug, Default, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewPlaybackToken {
    /// Seconds, at least 1; 6 hours by default, and at most what the server allows (7 days by default).
    #[garde(range(min = 1))]
    #[schema(minimum = 1)]
    pub ttl_s: Option<u64>,
}

/// Makes links that play the caller's video
///
/// Anybody who has them may play, also a private video, until they expire or are revoked.
#[utoipa::path(
    post, path = "/videos/{id}/playback-tokens", tag = "playback", operation_id = "mint_playback_token",
    security(("bearer" = [])), request_body = NewPlaybackToken,
    params(("id" = VideoId, Path, description = "The video")),
    responses(
        (status = 201, description = "The links", body = PlaybackLinks),
        (status = 401, description = "`unauthenticated`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "`not_found`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "`wrong_state` while it is not playable", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_body`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn mint(
    State(state): State<ApiState>,
    Path(id): Path<VideoId>,
    Caller(actor): Caller,
    Json(NewPlaybackToken { ttl_s }): Json<NewPlaybackToken>,
) -> Result<Response, Problem> {
    let links = state.platform.playback().mint(&actor, id, ttl_s.map(Duration::from_secs)).await?;
    Ok(render::secret(StatusCode::CREATED, &links))
}
