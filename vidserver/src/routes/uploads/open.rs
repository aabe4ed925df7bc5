//! `POST /videos/{id}/uploads`

use axum::extract::State;
use axum::response::Response;
use garde::Validate;
use http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;
use vidcore::id::VideoId;
use vidcore::storage::{OpenUpload, UploadView};

use crate::extract::{Caller, Json, Keyed, Path};
use crate::problem::{FieldError, Problem, ProblemBody, code};
use crate::routes::{ApiState, render};

/// A file that is about to come.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUpload {
    /// The file's exact size; at most what the server takes (16 GiB by default).
    #[garde(skip)]
    #[schema(minimum = 1)]
    pub size_bytes: u64,
    /// The file's SHA-256, 64 hexadecimal digits; checked when the bytes are there.
    #[garde(skip)]
    #[serde(default)]
    #[schema(pattern = "^[0-9a-fA-F]{64}$")]
    pub sha256: Option<String>,
    /// How its bytes will come; `whole` by default.
    #[garde(skip)]
    #[serde(default)]
    pub kind: OpenKind,
}

/// How the bytes of a new upload will come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OpenKind {
    /// With one `PUT` to `upload_url`.
    #[default]
    Whole,
    /// In parts that the client puts into the bucket itself, where the server offers that.
    Multipart,
}

/// Opens an upload for the caller's video
///
/// Its size is reserved in the quota. `PUT` the bytes to `upload_url`, then complete it. One of the kind `multipart` has
/// no such URL: ask for URLs of its parts, put each into the bucket, then complete it.
#[utoipa::path(
    post, path = "/videos/{id}/uploads", tag = "uploads", operation_id = "open_upload", security(("bearer" = [])),
    request_body = NewUpload,
    params(
        ("id" = VideoId, Path, description = "The video"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repeated request one"),
    ),
    responses(
        (status = 201, description = "The upload, with the URL for its bytes", body = UploadView),
        (status = 401, description = "`unauthenticated`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "`quota_exceeded`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "`not_found`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "`too_many_open_uploads`, `request_in_progress`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_body`, `idempotency_key_reused`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn open(
    State(state): State<ApiState>,
    Path(id): Path<VideoId>,
    Caller(actor): Caller,
    keyed: Keyed<Json<NewUpload>>,
) -> Result<Response, Problem> {
    let Json(NewUpload { size_bytes, sha256, kind }) = keyed.body;
    let running = state.in_progress.begin(keyed.key, &actor.user.to_string())?;
    let sha256 = sha256.map(|text| parse_sha256(&text)).transpose()?;
    let input = OpenUpload { size_bytes, sha256 };
    let uploads = state.platform.uploads();
    let opened = match kind {
        OpenKind::Whole => uploads.open(&actor, id, input, running.key()).await?,
        OpenKind::Multipart => uploads.open_multipart(&actor, id, input, running.key()).await?,
    };
    let upload = opened.into_inner();
    let location = state.platform.links().upload(upload.id);
    Ok(render::located(render::secret(StatusCode::CREATED, &upload), &location))
}

fn parse_sha256(text: &str) -> Result<[u8; 32], Problem> {
    let mut hash = [0; 32];
    hex::decode_to_slice(text, &mut hash).map_err(|_| {
        let detail = "64 hexadecimal digits".to_owned();
        Problem::new(code::INVALID_BODY).errors(vec![FieldError { pointer: "/sha256".to_owned(), detail }])
    })?;
    Ok(hash)
}
