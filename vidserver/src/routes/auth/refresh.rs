//! `POST /auth/refresh`

use axum::extract::State;
use axum::response::Response;
use garde::Validate;
use http::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use utoipa::ToSchema;
use vidcore::auth::SignedIn;

use crate::extract::{Json, Keyed};
use crate::problem::{Problem, ProblemBody};
use crate::routes::{ApiState, render};

/// The refresh token a client holds.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Refresh {
    /// It is good for one use; within 10 seconds the same one yields the same successor.
    #[garde(skip)]
    #[schema(value_type = String, max_length = 200)]
    pub refresh_token: SecretString,
}

/// Trades a refresh token for new tokens.
///
/// A token that is used a second time later than 10 seconds after the first ends its whole session
/// (RFC 9700 §4.14.2).
#[utoipa::path(
    post, path = "/auth/refresh", tag = "auth", operation_id = "refresh",
    request_body = Refresh,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repeated request one")),
    responses(
        (status = 200, description = "The account and new tokens", body = SignedIn),
        (status = 401, description = "`invalid_refresh_token`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "`request_in_progress`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_body`, `idempotency_key_reused`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn refresh(State(state): State<ApiState>, keyed: Keyed<Json<Refresh>>) -> Result<Response, Problem> {
    let Json(Refresh { refresh_token }) = keyed.body;
    // The scope must not hold the token itself: it is stored.
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, refresh_token.expose_secret().as_bytes());
    let running = state.in_progress.begin(keyed.key, &format!("{digest:?}"))?;
    let signed_in = state.platform.auth().refresh(&refresh_token, running.key()).await?.into_inner();
    Ok(render::secret(StatusCode::OK, &signed_in))
}
