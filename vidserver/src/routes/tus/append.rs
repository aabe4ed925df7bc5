//! `PATCH /uploads/tus/{id}`

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use futures_util::TryStreamExt;
use http::StatusCode;
use http_body::Body as _;
use vidcore::id::UploadId;
use vidcore::storage::resumable::{AppendBytes, Uploader};
use vidcore::storage::{Upload, UploadError};
use vidcore::store::BoxError;

use super::headers::{self, UPLOAD_LENGTH, UPLOAD_OFFSET, checksum, has_bytes, malformed, number};
use super::holder::Holder;
use crate::extract::Path;
use crate::problem::{Problem, ProblemBody, code};
use crate::routes::ApiState;

/// Appends bytes to a resumable upload
///
/// What arrived before a connection broke is kept, unless it came under a checksum. Of two requests the later one goes
/// on, and the earlier one is answered with 423 once it has kept what it had.
#[utoipa::path(
    patch, path = "/uploads/tus/{id}", tag = "uploads", operation_id = "append_tus_upload", security(("bearer" = [])),
    request_body(content = Vec<u8>, content_type = "application/offset+octet-stream", description = "The next bytes"),
    params(
        ("id" = UploadId, Path, description = "The upload"),
        ("expires" = Option<i64>, Query, description = "As in `Location`: without a token, the URL is the permission"),
        ("kid" = Option<String>, Query, description = "As in `Location`"),
        ("signature" = Option<String>, Query, description = "As in `Location`"),
        ("Tus-Resumable" = String, Header, description = "`1.0.0`"),
        ("Upload-Offset" = u64, Header, description = "Where the bytes begin: the upload's offset"),
        ("Upload-Length" = Option<u64>, Header, description = "The file's size, if it was deferred"),
        ("Upload-Checksum" = Option<String>, Header, description = "Of the body: `sha1`, `sha256` or `crc32`, and base64"),
    ),
    responses(
        (status = 204, description = "Every byte is kept; `Upload-Offset` says where the next ones begin"),
        (status = 400, description = "`bad_request`, `body_incomplete`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "`unauthenticated`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "`upload_not_appendable`, `quota_exceeded`, `invalid_signature`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "`not_found`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "`offset_mismatch`, `length_declared`, `wrong_state`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 410, description = "`upload_expired`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 412, description = "`tus_version_unsupported`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "`upload_too_large`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 423, description = "`upload_locked`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 460, description = "`upload_checksum_mismatch`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 501, description = "`transfer_coding_unsupported`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn append(
    State(state): State<ApiState>,
    Path(id): Path<UploadId>,
    Holder(who): Holder,
    request: Request,
) -> Result<Response, Problem> {
    if !has_bytes(&request)? {
        let detail = "bytes are sent as `application/offset+octet-stream`";
        return Err(Problem::new(code::UNSUPPORTED_MEDIA_TYPE).detail(detail));
    }
    let (parts, body) = request.into_parts();
    let offset = number(&parts.headers, UPLOAD_OFFSET)?;
    let input = AppendBytes {
        offset: offset.ok_or_else(|| malformed(&UPLOAD_OFFSET, "is needed"))?,
        length: number(&parts.headers, UPLOAD_LENGTH)?,
        announced: body.size_hint().exact(),
        checksum: checksum(&parts.headers)?,
    };
    let upload = append_body(&state, who, id, input, body).await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    headers::progress(response.headers_mut(), &upload);
    Ok(response)
}

/// Appends the body of a request.
pub(super) async fn append_body(
    state: &ApiState,
    who: Uploader,
    id: UploadId,
    input: AppendBytes,
    body: Body,
) -> Result<Upload, Problem> {
    let bytes = body.into_data_stream().map_err(BoxError::from);
    state.platform.uploads().append(who, id, input, bytes).await.map_err(refusal)
}

/// What the protocol has statuses of its own for.
pub(super) fn refusal(error: UploadError) -> Problem {
    match error {
        UploadError::ChecksumMismatch => Problem::new(code::UPLOAD_CHECKSUM_MISMATCH),
        UploadError::WrongKind { .. } => Problem::new(code::UPLOAD_NOT_APPENDABLE),
        UploadError::SizeMismatch { .. } => Problem::new(code::UPLOAD_TOO_LARGE).detail(error.to_string()),
        UploadError::Invalid(_) => malformed(&UPLOAD_LENGTH, "is 0, or less than has come"),
        error => error.into(),
    }
}
