//! `POST /auth/logout`

use axum::extract::State;
use garde::Validate;
use http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::extract::{Caller, Empty, Query};
use crate::problem::{Problem, ProblemBody};
use crate::routes::ApiState;

/// How far the logout goes.
#[derive(Debug, Default, Deserialize, Validate, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Extent {
    /// `true` ends every session of the account, `false` (the default) this one.
    #[garde(skip)]
    #[serde(default)]
    pub everywhere: bool,
}

/// Ends the session of the access token, or all of the account.
#[utoipa::path(
    post, path = "/auth/logout", tag = "auth", operation_id = "logout",
    params(Extent),
    security(("bearer" = [])),
    responses(
        (status = 204, description = "The tokens are dead"),
        (status = 401, description = "`unauthenticated`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn logout(
    State(state): State<ApiState>,
    Caller(actor): Caller,
    Query(extent): Query<Extent>,
    _: Empty,
) -> Result<StatusCode, Problem> {
    if extent.everywhere {
        state.platform.auth().logout_all(&actor).await?;
    } else {
        state.platform.auth().logout(&actor).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}
