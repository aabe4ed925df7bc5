//! `PUT /uploads/{id}/bytes`

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use futures_util::TryStreamExt;
use garde::Validate;
use http::StatusCode;
use http::header::CONTENT_RANGE;
use http_body::Body as _;
use serde::Deserialize;
use utoipa::IntoParams;
use vidcore::id::UploadId;
use vidcore::storage::{UploadSignature, UploadView};
use vidcore::store::BoxError;

use crate::extract::{Path, Query};
use crate::problem::{Problem, ProblemBody, code};
use crate::routes::{ApiState, render};

/// The query of an upload URL, as this server made it.
#[derive(Debug, Deserialize, Validate, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Signature {
    /// Until when the URL works, in seconds since 1970-01-01.
    #[garde(skip)]
    pub expires: i64,
    /// Which key signed it.
    #[garde(length(max = 64))]
    #[param(max_length = 64)]
    pub kid: String,
    /// The signature.
    #[garde(length(max = 128))]
    #[param(max_length = 128)]
    pub signature: String,
}

/// Takes the bytes of an upload
///
/// The URL is `upload_url` of the upload; it needs no token and is spent once all bytes are recorded.
/// A request that breaks off leaves nothing and may be repeated until the URL expires.
#[utoipa::path(
    put, path = "/uploads/{id}/bytes", tag = "uploads", operation_id = "put_upload_bytes",
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "The whole file"),
    params(("id" = UploadId, Path, description = "The upload"), Signature),
    responses(
        (status = 200, description = "Every byte is recorded", body = UploadView),
        (status = 400, description = "`bad_request`, `body_incomplete`, `invalid_query`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "`invalid_signature`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "`not_found`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "`already_received`, `wrong_state`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 410, description = "`upload_expired`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type`: the bytes are coded", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "`size_mismatch`, `checksum_mismatch`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 501, description = "`transfer_coding_unsupported`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 507, description = "`storage_full`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn put_bytes(
    State(state): State<ApiState>,
    Path(id): Path<UploadId>,
    Query(Signature { expires, kid, signature }): Query<Signature>,
    request: Request,
) -> Result<Response, Problem> {
    // RFC 9110 §14.5: a part must not be taken for the whole.
    if request.headers().contains_key(CONTENT_RANGE) {
        return Err(Problem::new(code::BAD_REQUEST).detail("all bytes come at once: `content-range` is not supported"));
    }
    let uploads = state.platform.uploads();
    let body: Body = request.into_body();
    // What is announced is checked before a byte is read; what comes is counted all the same.
    let announced = body.size_hint().exact();
    let upload = uploads.admit(id, &UploadSignature { expires, kid, signature }, announced).await?;
    let bytes = body.into_data_stream().map_err(BoxError::from);
    Ok(render::secret(StatusCode::OK, &uploads.receive(upload, bytes).await?))
}
