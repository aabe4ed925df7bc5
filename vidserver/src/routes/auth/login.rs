//! `POST /auth/login`

use axum::extract::State;
use axum::response::Response;
use garde::Validate;
use http::StatusCode;
use secrecy::SecretString;
use serde::Deserialize;
use utoipa::ToSchema;
use vidcore::auth::SignedIn;

use crate::extract::{CallerAddress, Json, Keyed};
use crate::problem::{Problem, ProblemBody};
use crate::routes::{ApiState, render};

/// An e-mail address and the password that belongs to it.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The address the account was registered with; case does not matter.
    #[garde(length(bytes, max = 254))]
    #[schema(format = Email, max_length = 254)]
    pub email: String,
    /// The password.
    #[garde(skip)]
    #[schema(value_type = String, format = Password, max_length = 128)]
    pub password: SecretString,
}

/// Signs an account in.
#[utoipa::path(
    post, path = "/auth/login", tag = "auth", operation_id = "login",
    request_body = Login,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repeated request one")),
    responses(
        (status = 200, description = "The account and new tokens", body = SignedIn),
        (status = 401, description = "`invalid_credentials`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "`request_in_progress`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_body`, `idempotency_key_reused`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn login(
    State(state): State<ApiState>,
    CallerAddress(address): CallerAddress,
    keyed: Keyed<Json<Login>>,
) -> Result<Response, Problem> {
    let Json(Login { email, password }) = keyed.body;
    let running = state.in_progress.begin(keyed.key, &email.trim().to_lowercase())?;
    let signed_in = state.platform.auth().login_from(address, &email, password, running.key()).await?.into_inner();
    Ok(render::secret(StatusCode::OK, &signed_in))
}
