//! Who calls, and whether they may now: before the body is read and before anything costs.

use std::net::{IpAddr, Ipv4Addr};

use axum::Extension;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use http::header::AUTHORIZATION;
use http::{Extensions, HeaderMap};
use utoipa_axum::router::OpenApiRouter;
use vidcore::Platform;
use vidcore::auth::{Actor, AuthError};
use vidcore::rate_limit::{Decision, LimitError, RouteClass};

use super::client::client_address;
use super::rate_limit::LimitState;
use crate::extract::caller::Authentication;
use crate::problem::Problem;
use crate::routes::ApiState;

/// The address all callers share where the nesting program tells none.
const NO_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Seconds after which a limiter that did not answer is asked again.
const LIMITER_RETRY_S: u32 = 1;

/// Puts the routes of `router` under the limits of `class`, and makes their caller known to them.
pub(crate) fn limited(router: OpenApiRouter<ApiState>, class: RouteClass) -> OpenApiRouter<ApiState> {
    router.route_layer(from_fn(move |Extension(state): Extension<ApiState>, request: Request, next: Next| {
        admit(state, class, request, next)
    }))
}

async fn admit(state: ApiState, class: RouteClass, mut request: Request, next: Next) -> Response {
    let platform = &state.platform;
    let authentication = authenticate(platform, request.headers()).await;
    let user = authentication.as_ref().ok().copied().flatten().map(|actor| actor.user);
    let decision = platform.limiter().check(class, user, address(platform, &request), 1).await;
    let limit = match decision {
        Ok(decision) => decision,
        Err(error) => return unanswered(error).into_response(),
    };
    if let Some(refusal) = limit.as_ref().filter(|decision| !decision.allowed) {
        return LimitState::from(refusal).refuse().into_response();
    }
    request.extensions_mut().insert(Authentication(authentication));
    let mut response = next.run(request).await;
    if let Some(decision) = &limit {
        LimitState::from(decision).describe(response.headers_mut());
    }
    response
}

/// The caller's address for limits.
pub(crate) fn address(platform: &Platform, request: &Request) -> IpAddr {
    address_in(platform, request.extensions(), request.headers())
}

/// The caller's address, where the request is in parts.
pub(crate) fn address_in(platform: &Platform, extensions: &Extensions, headers: &HeaderMap) -> IpAddr {
    let proxies = platform.limiter().trusted_proxies();
    client_address(extensions, headers, |peer, forwarded, x_forwarded_for| {
        proxies.client_address(peer, forwarded, x_forwarded_for)
    })
    .unwrap_or(NO_ADDRESS)
}

async fn authenticate(platform: &Platform, headers: &HeaderMap) -> Result<Option<Actor>, Problem> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let token = value.to_str().ok().and_then(bearer).filter(|_| values.next().is_none());
    let token = token.ok_or_else(Problem::invalid_token)?;
    match platform.auth().authenticate(token).await {
        Ok(actor) => Ok(Some(actor)),
        Err(error @ AuthError::BadToken(_)) => {
            tracing::debug!(%error, "a token was refused");
            Err(Problem::invalid_token())
        }
        Err(error) => Err(error.into()),
    }
}

/// The token of `Bearer …` (RFC 6750 §2.1); the scheme's case does not matter (RFC 9110 §11.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start_matches(' '))
}

fn unanswered(error: LimitError) -> Problem {
    match error {
        LimitError::Unavailable(_) => Problem::unavailable(LIMITER_RETRY_S).caused_by(error),
        error => Problem::internal(error),
    }
}

impl From<&Decision> for LimitState {
    fn from(decision: &Decision) -> Self {
        Self {
            policy: decision.policy.name().to_owned(),
            quota: decision.policy.limit(),
            window: decision.policy.window(),
            remaining: decision.remaining,
            reset_after: decision.reset_after,
            retry_after: decision.retry_after,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bearer_token_is_one() {
        assert_eq!(Some("abc"), bearer("Bearer abc"));
        assert_eq!(Some("abc"), bearer("bearer  abc"));
        assert_eq!(None, bearer("Basic abc"));
        assert_eq!(None, bearer("abc"));
    }
}
