//! `PATCH /users/me`

use axum::extract::State;
use axum::response::Response;
use garde::Validate;
use http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;
use vidcore::auth::AccountView;

use crate::extract::{Caller, IfMatch, Keyed, MergePatch};
use crate::problem::{Problem, ProblemBody};
use crate::routes::{ApiState, render};

/// What of an account its owner may change (RFC 7396).
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccountPatch {
    /// The name shown, 1 to 80 characters. It cannot be taken away.
    #[garde(skip)]
    #[schema(
        min_length = 1,
        max_length = 80,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$"
    )]
    pub display_name: String,
}

/// Changes the caller's own account
#[utoipa::path(
    patch, path = "/users/me", tag = "users", operation_id = "patch_me", security(("bearer" = [])),
    request_body(content = AccountPatch, content_type = "application/merge-patch+json"),
    params(
        ("If-Match" = Option<String>, Header, description = "The `ETag` that was read"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repeated request one"),
    ),
    responses(
        (status = 200, description = "The changed account", body = AccountView),
        (status = 401, description = "`unauthenticated`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 412, description = "`version_mismatch`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_body`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn patch_me(
    State(state): State<ApiState>,
    Caller(actor): Caller,
    condition: IfMatch,
    keyed: Keyed<MergePatch<AccountPatch>>,
) -> Result<Response, Problem> {
    let MergePatch(AccountPatch { display_name }) = keyed.body;
    let running = state.in_progress.begin(keyed.key, &actor.user.to_string())?;
    let expected = condition.single()?;
    let account = state.platform.auth().rename(&actor, &display_name, expected, running.key()).await?.into_inner();
    Ok(render::account(StatusCode::OK, account, None))
}
