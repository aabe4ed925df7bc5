//! `HEAD /uploads/tus/{id}`

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use vidcore::id::UploadId;

use super::headers;
use super::holder::Holder;
use crate::extract::Path;
use crate::problem::Problem;
use crate::routes::ApiState;

/// How far a resumable upload is
///
/// A request that appends to it meanwhile ends with what it has brought: whoever asks is about to go on. To watch an
/// upload without that, read `/uploads/{id}`.
#[utoipa::path(
    head, path = "/uploads/tus/{id}", tag = "uploads", operation_id = "tus_upload_status", security(("bearer" = [])),
    params(
        ("id" = UploadId, Path, description = "The upload"),
        ("expires" = Option<i64>, Query, description = "As in `Location`: without a token, the URL is the permission"),
        ("kid" = Option<String>, Query, description = "As in `Location`"),
        ("signature" = Option<String>, Query, description = "As in `Location`"),
        ("Tus-Resumable" = String, Header, description = "`1.0.0`"),
    ),
    responses(
        (status = 200, description = "`Upload-Offset`, `Upload-Length` or `Upload-Defer-Length`, `Upload-Expires`, and what was said about it"),
        (status = 401, description = "`unauthenticated`"),
        (status = 403, description = "`invalid_signature`"),
        (status = 404, description = "`not_found`"),
        (status = 410, description = "`upload_expired`"),
        (status = 412, description = "`tus_version_unsupported`"),
    )
)]
pub(crate) async fn status(
    State(state): State<ApiState>,
    Path(id): Path<UploadId>,
    Holder(who): Holder,
) -> Result<Response, Problem> {
    let upload = state.platform.uploads().resumable(who, id).await?;
    let mut response = StatusCode::OK.into_response();
    headers::describe(response.headers_mut(), &upload);
    Ok(response)
}
