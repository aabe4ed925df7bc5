//! `GET /playback/{grant}/file.mp4`

use axum::extract::State;
use axum::response::Response;
use vidcore::id::VideoId;
use vidcore::media::playback::Grant;

use crate::extract::Path;
use crate::problem::{Problem, ProblemBody};
use crate::routes::ApiState;
use crate::routes::playback::grant::{PublicPath, TokenPath};
use crate::routes::playback::send::{self, Wanted};
use crate::routes::playback::watch::watched;

/// The original, where it is published as it is, by token
#[utoipa::path(
    get, path = "/playback/{token}/file.mp4", tag = "playback", operation_id = "play_file_by_token",
    params(("token" = String, Path, description = "A playback token"),
        ("Range" = Option<String>, Header, description = "Byte ranges (RFC 9110 §14), at most 16")),
    responses(
        (status = 200, description = "The whole file", content((Vec<u8> = "video/*"), (Vec<u8> = "application/octet-stream"))),
        (status = 206, description = "A part of it, or several as `multipart/byteranges`", content((Vec<u8> = "video/*"), (Vec<u8> = "application/octet-stream"), (Vec<u8> = "multipart/byteranges"))),
        (status = 302, description = "The bytes are in the bucket, at `Location`, where the server sends viewers there"),
        (status = 304, description = "The caller holds it already"),
        (status = 404, description = "`not_found`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 412, description = "`version_mismatch`: `If-Match` names another", body = ProblemBody, content_type = "application/problem+json"),
        (status = 416, description = "`range_not_satisfiable`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn by_token(
    State(state): State<ApiState>,
    Path(path): Path<TokenPath>,
    wanted: Wanted,
) -> Result<Response, Problem> {
    answer(&state, path.into(), &wanted).await
}

/// The original, where it is published as it is, of a public or unlisted video
#[utoipa::path(
    get, path = "/playback/public/{video}/{epoch}/file.mp4", tag = "playback",
    operation_id = "play_file_public",
    params(
        ("video" = VideoId, Path, description = "The video"),
        ("epoch" = u32, Path, description = "The epoch in the video's links"),
        ("Range" = Option<String>, Header, description = "Byte ranges (RFC 9110 §14), at most 16")
    ),
    responses(
        (status = 200, description = "The whole file", content((Vec<u8> = "video/*"), (Vec<u8> = "application/octet-stream"))),
        (status = 206, description = "A part of it, or several as `multipart/byteranges`", content((Vec<u8> = "video/*"), (Vec<u8> = "application/octet-stream"), (Vec<u8> = "multipart/byteranges"))),
        (status = 302, description = "The bytes are in the bucket, at `Location`, where the server sends viewers there"),
        (status = 304, description = "The caller holds it already"),
        (status = 404, description = "`not_found`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 412, description = "`version_mismatch`: `If-Match` names another", body = ProblemBody, content_type = "application/problem+json"),
        (status = 416, description = "`range_not_satisfiable`", body = ProblemBody, content_type = "application/problem+json"),
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
    let object = playback.file(&playable).await?;
    let answer = send::object(playback, &object, wanted).await?;
    watched(state, &playable, &object, wanted, answer.status());
    Ok(answer)
}
