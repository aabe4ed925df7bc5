//! Who makes the request, as admission has found out.

use std::net::IpAddr;

use axum::extract::FromRequestParts;
use http::request::Parts;
use vidcore::auth::Actor;

use crate::problem::Problem;

/// What admission learned from `Authorization`, put into the request by it.
#[derive(Debug, Clone)]
pub(crate) struct Authentication {
    /// Nobody without a token; the refusal of one that is not valid.
    pub(crate) found: Result<Option<Actor>, Problem>,
    /// Whether the token was good, and its time is over.
    pub(crate) has_run_out: bool,
}

/// The address that limits count the caller by, put into the request by admission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallerAddress(pub IpAddr);

/// A signed-in caller; without a valid token the request ends with 401.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller(pub Actor);

/// A caller who may be signed in. A token that is sent and not valid is 401 all the same: answering
/// as to a stranger would hide what the client should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaybeCaller(pub Option<Actor>);

impl<S: Send + Sync> FromRequestParts<S> for MaybeCaller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match parts.extensions.get::<Authentication>() {
            Some(Authentication { found, .. }) => found.clone().map(Self),
            None => Err(outside_admission()),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for CallerAddress {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().copied().ok_or_else(outside_admission)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let MaybeCaller(actor) = MaybeCaller::from_request_parts(parts, state).await?;
        actor.map(Self).ok_or_else(Problem::unauthenticated)
    }
}

fn outside_admission() -> Problem {
    Problem::internal("a route that asks for its caller stands outside admission")
}
