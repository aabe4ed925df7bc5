//! `GET /playback/{grant}/storyboard/{file}`

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use vidcore::id::VideoId;
use vidcore::media::playback::Grant;

use crate::extract::Path;
use crate::problem::{Problem, ProblemBody};
use crate::routes::ApiState;
use crate::routes::playback::send::{self, Wanted};

/// A file of a storyboard, by token.
#[derive(Debug, Deserialize)]
pub struct TokenFile {
    token: String,
    file: String,
}

/// A file of the storyboard of a public or unlisted video.
#[derive(Debug, Deserialize)]
pub struct PublicFile {
    video: VideoId,
    epoch: u32,
    file: String,
}

/// A storyboard's WebVTT file or one of its sheets, by token
#[utoipa::path(
    get, path = "/playback/{token}/storyboard/{file}", tag = "playback",
    operation_id = "play_storyboard_by_token",
    params(
        ("token" = String, Path, description = "A playback token"),
        ("file" = String, Path, description = "`storyboard.vtt`, or a name that stands in it"),
        ("Range" = Option<String>, Header, description = "Byte ranges (RFC 9110 §14), at most 16")
    ),
    responses(
        (status = 200, description = "The whole file", content((String = "text/vtt"), (Vec<u8> = "image/jpeg"))),
        (status = 206, description = "A part of it, or several", content((String = "text/vtt"), (Vec<u8> = "image/jpeg"), (Vec<u8> = "multipart/byteranges"))),
        (status = 304, description = "The caller holds it already"),
        (status = 404, description = "`not_found`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 412, description = "`version_mismatch`: `If-Match` names another", body = ProblemBody, content_type = "application/problem+json"),
        (status = 416, description = "`range_not_satisfiable`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn by_token(
    State(state): State<ApiState>,
    Path(TokenFile { token, file }): Path<TokenFile>,
    wanted: Wanted,
) -> Result<Response, Problem> {
    answer(&state, Grant::Token(token), &file, &wanted).await
}

/// A storyboard's WebVTT file or one of its sheets, of a public or unlisted video
#[utoipa::path(
    get, path = "/playback/public/{video}/{epoch}/storyboard/{file}", tag = "playback",
    operation_id = "play_storyboard_public",
    params(
        ("video" = VideoId, Path, description = "The video"),
        ("epoch" = u32, Path, description = "The epoch in the video's links"),
        ("file" = String, Path, description = "`storyboard.vtt`, or a name that stands in it"),
        ("Range" = Option<String>, Header, description = "Byte ranges (RFC 9110 §14), at most 16")
    ),
    responses(
        (status = 200, description = "The whole file", content((String = "text/vtt"), (Vec<u8> = "image/jpeg"))),
        (status = 206, description = "A part of it, or several", content((String = "text/vtt"), (Vec<u8> = "image/jpeg"), (Vec<u8> = "multipart/byteranges"))),
        (status = 304, description = "The caller holds it already"),
        (status = 404, description = "`not_found`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 412, description = "`version_mismatch`: `If-Match` names another", body = ProblemBody, content_type = "application/problem+json"),
        (status = 416, description = "`range_not_satisfiable`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn public(
    State(state): State<ApiState>,
    Path(PublicFile { video, epoch, file }): Path<PublicFile>,
    wanted: Wanted,
) -> Result<Response, Problem> {
    answer(&state, Grant::Public { video, epoch }, &file, &wanted).await
}

async fn answer(state: &ApiState, grant: Grant, file: &str, wanted: &Wanted) -> Result<Response, Problem> {
    let playback = state.platform.playback();
    let playable = playback.open(&grant, wanted.visitor()).await?;
    let object = playback.storyboard(&playable, file).await?;
    send::object(playback, &object, wanted).await
}
