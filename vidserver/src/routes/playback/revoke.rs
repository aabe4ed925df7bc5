//! `DELETE /videos/{id}/playback-tokens`

use axum::extract::State;
use http::StatusCode;
use vidcore::id::VideoId;

use crate::extract::{Caller, Empty, Keyed, Path};
use crate::problem::{Problem, ProblemBody};
use crate::routes::ApiState;

/// Kills every playback link of the caller's video
///
/// Public links die too; the video shows new ones.
#[utoipa::path(
    delete, path = "/videos/{id}/playback-tokens", tag = "playback", operation_id = "revoke_playback_tokens",
    security(("bearer" = [])),
    params(
        ("id" = VideoId, Path, description = "The video"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repeated request one"),
    ),
    responses(
        (status = 204, description = "They are dead"),
        (status = 401, description = "`unauthenticated`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "`not_found`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn revoke(
    State(state): State<ApiState>,
    Path(id): Path<VideoId>,
    Caller(actor): Caller,
    keyed: Keyed<Empty>,
) -> Result<StatusCode, Problem> {
    let running = state.in_progress.begin(keyed.key, &actor.user.to_string())?;
    state.platform.playback().revoke(&actor, id, running.key()).await?;
    Ok(StatusCode::NO_CONTENT)
}
