//! `GET /playback/{token}/download`

use axum::extract::State;
use axum::response::Response;

use crate::extract::Path;
use crate::problem::{Problem, ProblemBody};
use crate::routes::ApiState;
use crate::routes::playback::disposition;
use crate::routes::playback::grant::TokenPath;
use crate::routes::playback::send::{self, Wanted};

/// The original as a file, by a token that allows it
#[utoipa::path(
    get, path = "/playback/{token}/download", tag = "playback", operation_id = "download_original",
    params(("token" = String, Path, description = "A playback token with the right to download"),
        ("Range" = Option<String>, Header, description = "Byte ranges (RFC 9110 §14), at most 16")),
    responses(
        (status = 200, description = "The whole file, called like the video", content((Vec<u8> = "video/*"), (Vec<u8> = "application/octet-stream"))),
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
    let playback = state.platform.playback();
    let playable = playback.open(&path.into(), wanted.visitor()).await?;
    let original = playback.original(&playable).await?;
    let called = disposition::attachment(playable.title(), original.media_type());
    send::object_called(playback, &original, &wanted, called).await
}
