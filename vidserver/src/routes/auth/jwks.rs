//! `GET /.well-known/jwks.json`

use axum::extract::State;
use axum::response::Response;
use http::HeaderValue;
use http::header::CACHE_CONTROL;
use vidcore::auth::Jwks;

use crate::extract::IfNoneMatch;
use crate::routes::render::Audience;
use crate::routes::{ApiState, render};

/// The public keys of access tokens (RFC 7517). A new key stands here before it signs.
#[utoipa::path(
    get, path = "/.well-known/jwks.json", tag = "auth", operation_id = "jwks",
    responses(
        (status = 200, description = "The key set", body = Jwks),
        (status = 304, description = "The caller holds it already"),
    )
)]
pub(crate) async fn jwks(State(state): State<ApiState>, held: IfNoneMatch) -> Response {
    let mut response = render::list(&state.platform.auth().jwks(), &held, Audience::Everybody);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    response
}
