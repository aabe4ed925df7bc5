//! `POST /uploads/tus/{id}`

use axum::extract::{Request, State};
use axum::response::Response;
use http::HeaderName;
use vidcore::id::UploadId;

use super::headers::text;
use super::{append, status, terminate};
use crate::extract::{Caller, Path};
use crate::problem::{Problem, ProblemBody, code};
use crate::routes::ApiState;

const X_HTTP_METHOD_OVERRIDE: HeaderName = HeaderName::from_static("x-http-method-override");

/// `PATCH`, `HEAD` or `DELETE`, for clients that cannot say so
#[utoipa::path(
    post, path = "/uploads/tus/{id}", tag = "uploads", operation_id = "override_tus_method", security(("bearer" = [])),
    request_body(content = Vec<u8>, content_type = "application/offset+octet-stream", description = "As the named method takes it"),
    params(
        ("id" = UploadId, Path, description = "The upload"),
        ("Tus-Resumable" = String, Header, description = "`1.0.0`"),
        ("X-HTTP-Method-Override" = String, Header, description = "`PATCH`, `HEAD` or `DELETE`"),
        ("Upload-Offset" = Option<u64>, Header, description = "As for `PATCH`"),
    ),
    responses(
        (status = 200, description = "As the named method answers"),
        (status = 204, description = "As the named method answers"),
        (status = 400, description = "As the named method answers", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "`unauthenticated`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "As the named method answers", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "`not_found`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 405, description = "`method_not_allowed`: another method, or none", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "As the named method answers", body = ProblemBody, content_type = "application/problem+json"),
        (status = 410, description = "`upload_expired`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 412, description = "`tus_version_unsupported`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "`upload_too_large`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 423, description = "`upload_locked`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 460, description = "`upload_checksum_mismatch`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn over(
    State(state): State<ApiState>,
    Path(id): Path<UploadId>,
    Caller(actor): Caller,
    request: Request,
) -> Result<Response, Problem> {
    match text(request.headers(), X_HTTP_METHOD_OVERRIDE)? {
        Some("PATCH") => append::answer(&state, &actor, id, request).await,
        Some("HEAD") => status::answer(&state, &actor, id).await,
        Some("DELETE") => terminate::answer(&state, &actor, id).await,
        _ => Err(Problem::new(code::METHOD_NOT_ALLOWED)
            .header(http::header::ALLOW, http::HeaderValue::from_static("PATCH, HEAD, DELETE, OPTIONS"))),
    }
}
