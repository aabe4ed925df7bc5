//! `GET /.well-known/jwks.json`

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::CACHE_CONTROL;
use vidcore::auth::Jwks;

use crate::routes::ApiState;

/// The public keys of access tokens (RFC 7517). A new key stands here before it signs.
#[utoipa::path(
    get, path = "/.well-known/jwks.json", tag = "auth", operation_id = "jwks",
    responses((status = 200, description = "The key set", body = Jwks))
)]
pub(crate) async fn jwks(State(state): State<ApiState>) -> Response {
    let keep = [(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"))];
    (keep, axum::Json(state.platform.auth().jwks())).into_response()
}
