//! `POST /uploads/{id}/parts` and `GET /uploads/{id}/parts`

use axum::extract::State;
use axum::response::Response;
use garde::Validate;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use vidcore::id::UploadId;
use vidcore::storage::multipart::{PartView, SignedParts};

use crate::extract::{Caller, Json, Path, Query};
use crate::problem::{Problem, ProblemBody};
use crate::routes::{ApiState, render};

/// Parts that are about to be put into the bucket.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PartNumbersInput {
    /// Their numbers, from 1 to `part_count` of the upload.
    #[garde(skip)]
    #[schema(min_items = 1, max_items = 100)]
    pub numbers: Vec<u32>,
}

/// Where a list of parts goes on.
#[derive(Debug, Clone, Copy, Default, Deserialize, Validate, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AfterPart {
    /// The last number of the page before; 0 by default.
    #[garde(range(max = 10_000))]
    #[param(minimum = 0, maximum = 10_000, default = 0)]
    pub after: Option<u32>,
}

/// Parts that are in the bucket.
#[derive(Debug, Serialize, ToSchema)]
pub struct StoredParts {
    /// In order, at most 1,000; none at the end.
    pub items: Vec<PartView>,
}

/// Signs URLs to put parts into the bucket
///
/// For uploads of the kind `multipart`. `PUT` each part to its URL with exactly its bytes; it may be put again, which
/// replaces it. Ask anew when a URL has run out.
#[utoipa::path(
    post, path = "/uploads/{id}/parts", tag = "uploads", operation_id = "sign_parts", security(("bearer" = [])),
    request_body = PartNumbersInput,
    params(("id" = UploadId, Path, description = "The upload")),
    responses(
        (status = 200, description = "A URL for each part", body = SignedParts),
        (status = 401, description = "`unauthenticated`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "`not_found`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "`wrong_state`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 410, description = "`upload_expired`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_body`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn sign(
    State(state): State<ApiState>,
    Path(id): Path<UploadId>,
    Caller(actor): Caller,
    Json(PartNumbersInput { numbers }): Json<PartNumbersInput>,
) -> Result<Response, Problem> {
    let signed = state.platform.uploads().sign_parts(&actor, id, &numbers).await?;
    Ok(render::secret(StatusCode::OK, &signed))
}

/// Parts that are in the bucket
///
/// While the upload is open. Ask again after the last number until nothing comes.
#[utoipa::path(
    get, path = "/uploads/{id}/parts", tag = "uploads", operation_id = "list_parts", security(("bearer" = [])),
    params(("id" = UploadId, Path, description = "The upload"), AfterPart),
    responses(
        (status = 200, description = "Parts", body = StoredParts),
        (status = 400, description = "`invalid_query`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "`unauthenticated`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "`not_found`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "`wrong_state`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 410, description = "`upload_expired`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list(
    State(state): State<ApiState>,
    Path(id): Path<UploadId>,
    Query(AfterPart { after }): Query<AfterPart>,
    Caller(actor): Caller,
) -> Result<Response, Problem> {
    let items = state.platform.uploads().stored_parts(&actor, id, after.unwrap_or(0)).await?;
    Ok(render::secret(StatusCode::OK, &StoredParts { items }))
}
