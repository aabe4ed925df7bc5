//! `POST /uploads/tus/{id}`

use http::HeaderValue;
use http::header::ALLOW;
use vidcore::id::UploadId;

use crate::extract::{Caller, Path};
use crate::problem::{Problem, ProblemBody, code};

/// `PATCH`, `HEAD` or `DELETE`, for clients that cannot say so
///
/// The header counts on every request under `/uploads/tus`, whatever its method.
#[utoipa::path(
    post, path = "/uploads/tus/{id}", tag = "uploads", operation_id = "override_tus_method", security(("bearer" = [])),
    request_body(content = Vec<u8>, content_type = "application/offset+octet-stream", description = "As the named method takes it"),
    params(
        ("id" = UploadId, Path, description = "The upload"),
        ("Tus-Resumable" = String, Header, description = "`1.0.0`"),
        ("X-HTTP-Method-Override" = String, Header, description = "`PATCH`, `HEAD`, `DELETE` or `OPTIONS`"),
        ("Upload-Offset" = Option<u64>, Header, description = "As for `PATCH`"),
    ),
    responses(
        (status = 200, description = "As the named method answers"),
        (status = 204, description = "As the named method answers"),
        (status = 400, description = "As the named method answers, and for what names no method", body = ProblemBody, content_type = "application/problem+json"),
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
        (status = 501, description = "`transfer_coding_unsupported`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn over(_id: Path<UploadId>, _caller: Caller) -> Problem {
    // A request that names another method is that one's by now.
    Problem::new(code::METHOD_NOT_ALLOWED).header(ALLOW, HeaderValue::from_static("DELETE,HEAD,OPTIONS,PATCH"))
}
