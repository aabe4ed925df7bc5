//! Who calls, and whether they may now: before the body is read and before anything costs.

use std::net::{IpAddr, Ipv4Addr};

use axum::Extension;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use utoipa_axum::router::OpenApiRouter;
use vidcore::Platform;
use vidcore::auth::{Actor, AuthError, BadToken};
use vidcore::rate_limit::{CostlyCall, RouteClass};

use super::client::client_address;
use super::rate_limit::LimitState;
use crate::extract::caller::{Authentication, CallerAddress};
use crate::problem::Problem;
use crate::routes::ApiState;

/// The address all callers share where the nesting program tells none.
const NO_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Puts the routes of `router` under the limits of `class`, and makes their caller known to them.
pub(crate) fn limited(router: OpenApiRouter<ApiState>, class: RouteClass) -> OpenApiRouter<ApiState> {
    limited_by_cost(router, class, |_| None)
}

/// The same, where `kind` finds some of the calls more costly than others.
pub(crate) fn limited_by_cost(
    router: OpenApiRouter<ApiState>,
    class: RouteClass,
    kind: fn(&Request) -> Option<CostlyCall>,
) -> OpenApiRouter<ApiState> {
    router.route_layer(from_fn(move |Extension(state): Extension<ApiState>, request: Request, next: Next| {
        let cost = kind(&request).map_or(1, |call| state.platform.limiter().cost(call));
        admit(state, class, cost, request, next)
    }))
}

async fn admit(state: ApiState, class: RouteClass, cost: u32, mut request: Request, next: Next) -> Response {
    let platform = &state.platform;
    let address = address(platform, &request);
    let authentication = authenticate(platform, request.headers()).await;
    let user = authentication.found.as_ref().ok().copied().flatten().map(|actor| actor.user);
    let limit = match platform.limiter().check(class, user, address, cost).await {
        Ok(decision) => decision,
        Err(error) => return Problem::from(error).into_response(),
    };
    if let Some(refusal) = limit.as_ref().filter(|decision| !decision.allowed) {
        return LimitState::from(refusal).refuse().into_response();
    }
    request.extensions_mut().insert(authentication);
    request.extensions_mut().insert(CallerAddress(address));
    let mut response = next.run(request).await;
    if let Some(decision) = &limit {
        LimitState::from(decision).describe(response.headers_mut());
    }
    response
}

/// The caller's address for limits.
fn address(platform: &Platform, request: &Request) -> IpAddr {
    let proxies = platform.limiter().trusted_proxies();
    client_address(request.extensions(), request.headers(), |peer, forwarded, x_forwarded_for| {
        proxies.client_address(peer, forwarded, x_forwarded_for)
    })
    .unwrap_or(NO_ADDRESS)
}

async fn authenticate(platform: &Platform, headers: &HeaderMap) -> Authentication {
    let mut has_run_out = false;
    let found = find_caller(platform, headers, &mut has_run_out).await;
    Authentication { found, has_run_out }
}

async fn find_caller(
    platform: &Platform,
    headers: &HeaderMap,
    has_run_out: &mut bool,
) -> Result<Option<Actor>, Problem> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let token = value.to_str().ok().and_then(bearer).filter(|_| values.next().is_none());
    let token = token.ok_or_else(Problem::invalid_token)?;
    match platform.auth().authenticate(token).await {
        Ok(actor) => Ok(Some(actor)),
        Err(AuthError::BadToken(why)) => {
            tracing::debug!(error = %why, "a token was refused");
            *has_run_out = matches!(why, BadToken::Expired);
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
