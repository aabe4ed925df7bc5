//! `GET /playback/{grant}/{rendition}/{file}`

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use vidcore::id::VideoId;
use vidcore::media::playback::Grant;

use crate::extract::Path;
use crate::problem::{Problem, ProblemBody};
use crate::routes::ApiState;
use crate::routes::playback::send::{self, Wanted};
use crate::routes::playback::watch::watched;

/// A file of a rendition, by token.
#[derive(Debug, Deserialize)]
pub struct TokenFile {
    token: String,
    rendition: String,
    file: String,
}

/// A file of a rendition of a public or unlisted video.
#[derive(Debug, Deserialize)]
pub struct PublicFile {
    video: VideoId,
    epoch: u32,
    rendition: String,
    file: String,
}

/// A media playlist, init segment or segment, by token
#[utoipa::path(
    get, path = "/playback/{token}/{rendition}/{file}", tag = "playback",
    operation_id = "play_rendition_by_token",
    params(
        ("token" = String, Path, description = "A playback token"),
        ("rendition" = String, Path, description = "The rendition's name, such as `720p`"),
        ("file" = String, Path, description = "A name that stands in the playlist, or `index.m3u8`"),
        ("Range" = Option<String>, Header, description = "Byte ranges (RFC 9110 §14), at most 16")
    ),
    responses(
        (status = 200, description = "The whole file", content((Vec<u8> = "video/*"), (String = "application/vnd.apple.mpegurl"))),
        (status = 206, description = "A part of it, or several as `multipart/byteranges`", content((Vec<u8> = "video/*"), (String = "application/vnd.apple.mpegurl"), (Vec<u8> = "multipart/byteranges"))),
        (status = 302, description = "The bytes are in the bucket, at `Location`, where the server sends viewers there"),
        (status = 304, description = "The caller holds it already"),
        (status = 404, description = "`not_found`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 412, description = "`version_mismatch`: `If-Match` names another", body = ProblemBody, content_type = "application/problem+json"),
        (status = 416, description = "`range_not_satisfiable`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn by_token(
    State(state): State<ApiState>,
    Path(TokenFile { token, rendition, file }): Path<TokenFile>,
    wanted: Wanted,
) -> Result<Response, Problem> {
    answer(&state, Grant::Token(token), &rendition, &file, &wanted).await
}

/// A media playlist, init segment or segment of a public or unlisted video
#[utoipa::path(
    get, path = "/playback/public/{video}/{epoch}/{rendition}/{file}", tag = "playback",
    operation_id = "play_rendition_public",
    params(
        ("video" = VideoId, Path, description = "The video"),
        ("epoch" = u32, Path, description = "The epoch in the video's links"),
        ("rendition" = String, Path, description = "The rendition's name, such as `720p`"),
        ("file" = String, Path, description = "A name that stands in the playlist, or `index.m3u8`"),
        ("Range" = Option<String>, Header, description = "Byte ranges (RFC 9110 §14), at most 16")
    ),
    responses(
        (status = 200, description = "The whole file", content((Vec<u8> = "video/*"), (String = "application/vnd.apple.mpegurl"))),
        (status = 206, description = "A part of it, or several as `multipart/byteranges`", content((Vec<u8> = "video/*"), (String = "application/vnd.apple.mpegurl"), (Vec<u8> = "multipart/byteranges"))),
        (status = 302, description = "The bytes are in the bucket, at `Location`, where the server sends viewers there"),
        (status = 304, description = "The caller holds it already"),
        (status = 404, description = "`not_found`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 412, description = "`version_mismatch`: `If-Match` names another", body = ProblemBody, content_type = "application/problem+json"),
        (status = 416, description = "`range_not_satisfiable`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn public(
    State(state): State<ApiState>,
    Path(PublicFile { video, epoch, rendition, file }): Path<PublicFile>,
    wanted: Wanted,
) -> Result<Response, Problem> {
    answer(&state, Grant::Public { video, epoch }, &rendition, &file, &wanted).await
}

async fn answer(
    state: &ApiState,
    grant: Grant,
    rendition: &str,
    file: &str,
    wanted: &Wanted,
) -> Result<Response, Problem> {
    let playback = state.platform.playback();
    let playable = playback.open(&grant, wanted.visitor()).await?;
    let object = playback.rendition_object(&playable, rendition, file).await?;
    let answer = send::object(playback, &object, wanted).await?;
    watched(state, &playable, &object, wanted, answer.status());
    Ok(answer)
}
