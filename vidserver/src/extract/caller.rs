//! Who makes the request, as admission has found out.

use std::convert::Infallible;
use std::net::IpAddr;

use axum::extract::FromRequestParts;
use http::request::Parts;
use vidcore::auth::Actor;

use crate::middleware::admission::address_in;
use crate::problem::Problem;
use crate::routes::ApiState;

/// What admission learned from `Authorization`, put into the request by it.
#[derive(Debug, Clone)]
pub(crate) struct Authentication(pub(crate) Result<Option<Actor>, Problem>);

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
            Some(Authentication(found)) => found.clone().map(Self),
            None => Err(Problem::internal("a route that asks for its caller stands outside admission")),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let MaybeCaller(actor) = MaybeCaller::from_request_parts(parts, state).await?;
        actor.map(Self).ok_or_else(Problem::unauthenticated)
    }
}

/// The address a request comes from, behind proxies that are trusted; one and the same for everybody where the
/// program that nests the router tells none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CallerAddress(pub(crate) IpAddr);

impl FromRequestParts<ApiState> for CallerAddress {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Infallible> {
        Ok(Self(address_in(&state.platform, &parts.extensions, &parts.headers)))
    }
}
