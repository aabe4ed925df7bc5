//! `GET /playback/{grant}/master.m3u8`

use axum::extract::State;
use axum::response::Response;
use vidcore::id::VideoId;
use vidcore::media::playback::Grant;

use crate::extract::Path;
use crate::problem::{Problem, ProblemBody};
use crate::routes::ApiState;
use crate::routes::playback::grant::{PublicPath, TokenPath};
use crate::routes::playback::send::{self, Wanted};

/// The master playlist (RFC 8216), by token
#[utoipa::path(
    get, path = "/playback/{token}/master.m3u8", tag = "playback", operation_id = "play_master_by_token",
    params(("token" = String, Path, description = "A playback token")),
    responses(
        (status = 200, description = "The playlist", content_type = "application/vnd.apple.mpegurl"),
        (status = 304, description = "The caller holds it already"),
        (status = 404, description = "`not_found`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 412, description = "`version_mismatch`: `If-Match` names another", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn by_token(
    State(state): State<ApiState>,
    Path(path): Path<TokenPath>,
    wanted: Wanted,
) -> Result<Response, Problem> {
    answer(&state, path.into(), &wanted).await
}

/// The master playlist (RFC 8216), of a public or unlisted video
#[utoipa::path(
    get, path = "/playback/public/{video}/{epoch}/master.m3u8", tag = "playback",
    operation_id = "play_master_public",
    params(
        ("video" = VideoId, Path, description = "The video"),
        ("epoch" = u32, Path, description = "The epoch in the video's links")
    ),
    responses(
        (status = 200, description = "The playlist", content_type = "application/vnd.apple.mpegurl"),
        (status = 304, description = "The caller holds it already"),
        (status = 404, description = "`not_found`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 412, description = "`version_mismatch`: `If-Match` names another", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn public(
    State(state): State<ApiState>,
    Path(path): Path<PublicPath>,
    wanted: Wanted,
) -> Result<Response, Problem> {
    answer(&state, path.into(), &wanted).await
}

async fn answer(state: &ApiState, grant: Grant, wanted: &Wanted) -> Result<Response, Problem> {
    let playback = state.platform.playback();
    let playable = playback.open(&grant, wanted.visitor()).await?;
    let playlist = playback.master_playlist(&playable).await?;
    send::playlist(playlist, playable.shared, wanted)
}
