//! Answers that several routes share: single resources and lists with entity tags.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, LINK, LOCATION};
use http::{HeaderValue, StatusCode, Uri};
use serde::Serialize;
use vidcore::auth::{AccountView, Actor};
use vidcore::cache::Cached;
use vidcore::catalog::view::VideoView;
use vidcore::page::Page;
use vidcore::platform::Links;

use crate::extract::{EntityTag, IfNoneMatch};

/// What an answer may be kept as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Everybody gets the same: caches may keep it and must ask again.
    Everybody,
    /// Only the caller may see it.
    Caller,
}

impl Audience {
    /// Answers to a signed-in caller are its own.
    pub fn of(actor: Option<&Actor>) -> Self {
        if actor.is_some() { Self::Caller } else { Self::Everybody }
    }

    fn header(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Everybody => "public, max-age=0, must-revalidate",
            Self::Caller => "private, no-store",
        })
    }
}

/// A value as JSON.
pub fn json<T: Serialize>(status: StatusCode, value: &T) -> Response {
    (status, axum::Json(value)).into_response()
}

/// A value that holds secrets, as JSON that nothing on the way keeps (RFC 6749 §5.1).
pub fn secret<T: Serialize>(status: StatusCode, value: &T) -> Response {
    (status, [(CACHE_CONTROL, HeaderValue::from_static("no-store"))], axum::Json(value)).into_response()
}

/// A video with its tag `"{version}-{digest}"`, or 304 if the caller holds it.
pub fn video(cached: &Cached<VideoView>, held: &IfNoneMatch, audience: Audience) -> Response {
    let tag = EntityTag::of_version(cached.value.version, &cached.digest);
    bytes(cached, tag, held, audience)
}

/// The caller's own account with its tag, or 304 if the caller holds it.
pub fn account(status: StatusCode, account: AccountView, held: Option<&IfNoneMatch>) -> Response {
    let cached = Cached::new(account);
    let tag = EntityTag::of_version(cached.value.version, &cached.digest);
    match held {
        Some(held) => bytes(&cached, tag, held, Audience::Caller),
        None => send(status, &cached, tag, Audience::Caller),
    }
}

/// A list with its tag `W/"{digest}"`, or 304 if the caller holds it.
pub fn list<T>(cached: &Cached<T>, held: &IfNoneMatch, audience: Audience) -> Response {
    let tag = EntityTag::of_list(&cached.digest);
    bytes(cached, tag, held, audience)
}

/// A page, with its tag and a `Link` to the next one (RFC 8288). `uri` is the request's below the
/// prefix of the API, which is all that is sure to be known of it behind proxies.
pub fn page<T: Serialize>(page: Page<T>, links: &Links, uri: &Uri, held: &IfNoneMatch, audience: Audience) -> Response {
    cached_page(&Cached::new(page), links, uri, held, audience)
}

/// A page that is kept as bytes, as [`page`] answers it.
pub fn cached_page<T>(
    page: &Cached<Page<T>>,
    links: &Links,
    uri: &Uri,
    held: &IfNoneMatch,
    audience: Audience,
) -> Response {
    let next = page.value.next_cursor.as_ref().map(|cursor| next_link(links, uri, cursor));
    let mut response = list(page, held, audience);
    if let Some(next) = next.and_then(|next| HeaderValue::from_str(&next).ok()) {
        response.headers_mut().insert(LINK, next);
    }
    response
}

/// A changed video with its new tag.
pub fn changed(status: StatusCode, view: VideoView) -> Response {
    let cached = Cached::new(view);
    let tag = EntityTag::of_version(cached.value.version, &cached.digest);
    send(status, &cached, tag, Audience::Caller)
}

/// Adds `Location`, a path that this server made.
pub fn located(mut response: Response, location: &str) -> Response {
    if let Ok(location) = HeaderValue::from_str(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

fn bytes<T>(cached: &Cached<T>, tag: EntityTag, held: &IfNoneMatch, audience: Audience) -> Response {
    if held.holds(&tag) {
        let headers = [(ETAG, tag.header_value()), (CACHE_CONTROL, audience.header())];
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    send(StatusCode::OK, cached, tag, audience)
}

fn send<T>(status: StatusCode, cached: &Cached<T>, tag: EntityTag, audience: Audience) -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (ETAG, tag.header_value()),
        (CACHE_CONTROL, audience.header()),
    ];
    (status, headers, Body::from(cached.json.clone())).into_response()
}

/// The same path and query with another cursor.
fn next_link(links: &Links, uri: &Uri, cursor: &str) -> String {
    let kept =
        uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("cursor="));
    let query: Vec<String> = kept.map(str::to_owned).chain([format!("cursor={cursor}")]).collect();
    format!("<{}{}?{}>; rel=\"next\"", links.base(), uri.path(), query.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_link_keeps_the_filter_and_replaces_the_cursor() {
        let uri = Uri::from_static("/search?q=cat&cursor=old&limit=5");
        let links = Links::new("https://example.org/media");
        let expected = "</media/api/v1/search?q=cat&limit=5&cursor=new>; rel=\"next\"";
        assert_eq!(expected, next_link(&links, &uri, "new"));
    }
}
