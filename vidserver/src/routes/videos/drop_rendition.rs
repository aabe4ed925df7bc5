//! `DELETE /videos/{id}/renditions/{name}`

use axum::extract::State;
use http::StatusCode;
use serde::Deserialize;
use vidcore::id::VideoId;

use crate::extract::{Caller, Empty, Keyed, Path};
use crate::problem::{Problem, ProblemBody};
use crate::routes::ApiState;

/// A rendition of a video.
#[derive(Debug, Deserialize)]
pub struct OneRendition {
    id: VideoId,
    name: String,
}

/// Deletes one rendition
///
/// The others play on; the last one cannot be deleted. Processing the video again makes it anew, as long as its
/// original is kept.
#[utoipa::path(
    delete, path = "/videos/{id}/renditions/{name}", tag = "videos", operation_id = "delete_rendition",
    security(("bearer" = [])),
    params(
        ("id" = VideoId, Path, description = "The video"),
        ("name" = String, Path, description = "The rendition's name, such as `720p`"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repeated request one"),
    ),
    responses(
        (status = 204, description = "It is gone"),
        (status = 401, description = "`unauthenticated`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "`not_found`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "`wrong_state` for one that is not ready, `last_rendition`, `request_in_progress`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn drop_rendition(
    State(state): State<ApiState>,
    Path(OneRendition { id, name }): Path<OneRendition>,
    Caller(actor): Caller,
    keyed: Keyed<Empty>,
) -> Result<StatusCode, Problem> {
    let running = state.in_progress.begin(keyed.key, &actor.user.to_string())?;
    state.platform.catalog().drop_rendition(&actor, id, name, running.key()).await?;
    Ok(StatusCode::NO_CONTENT)
}
