//! `POST /auth/register`

use axum::extract::State;
use axum::response::Response;
use garde::Validate;
use http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;
use vidcore::auth::{RegisterInput, SignedIn};

use crate::extract::{CallerAddress, Json, Keyed};
use crate::problem::{Problem, ProblemBody};
use crate::routes::{ApiState, render};

/// A person who wants an account. The library states and checks the rules.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(transparent)]
pub struct Registration(#[garde(skip)] pub RegisterInput);

/// Creates an account and signs it in.
#[utoipa::path(
    post, path = "/auth/register", tag = "auth", operation_id = "register",
    request_body = RegisterInput,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repeated request one")),
    responses(
        (status = 201, description = "The account and its first tokens", body = SignedIn),
        (status = 409, description = "`email_taken`, `handle_taken`, `request_in_progress`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_body`, `idempotency_key_reused`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn register(
    State(state): State<ApiState>,
    CallerAddress(address): CallerAddress,
    keyed: Keyed<Json<Registration>>,
) -> Result<Response, Problem> {
    let Json(Registration(input)) = keyed.body;
    let caller = input.email.trim().to_lowercase();
    let running = state.in_progress.begin(keyed.key, &caller)?;
    let signed_in = state.platform.auth().register_from(address, input, running.key()).await?.into_inner();
    Ok(render::secret(StatusCode::CREATED, &signed_in))
}
