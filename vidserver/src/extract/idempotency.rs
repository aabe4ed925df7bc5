//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): what the caller presents, bound to
//! the whole request.

use std::fmt;
use std::sync::Arc;

use axum::extract::{FromRef, FromRequest, MatchedPath, OriginalUri, Request};
use http::{HeaderMap, HeaderName, Method, request};
use vidcore::idempotency::IdempotencyKey;

use super::body::{FromBody, read};
use crate::problem::{Problem, code};

/// The header's name.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The longest key, in bytes.
const MAX_KEY: usize = 255;

/// Turns a request into 32 bytes that differ for every other request.
///
/// # Contract
/// The bytes are keyed: bodies hold passwords, and a plain hash of one could be tried offline.
pub trait RequestFingerprint: fmt::Debug + Send + Sync + 'static {
    /// The fingerprint of a request; `target` is its path with its query.
    fn fingerprint(&self, method: &Method, target: &str, body: &[u8]) -> [u8; 32];
}

/// The caller's key with the fingerprint of its request; not yet bound to the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresentedKey {
    key: String,
    fingerprint: [u8; 32],
    route: String,
}

impl PresentedKey {
    /// The key `key` of a request to `route`, a matched pattern.
    pub fn new(key: &str, fingerprint: [u8; 32], method: &Method, route: &str) -> Self {
        Self { key: key.to_owned(), fingerprint, route: format!("{method} {route}") }
    }

    /// Binds the key to the route and to `caller`: a user's id, or an anonymous caller's e-mail
    /// address or network address.
    pub fn scoped(self, caller: &str) -> IdempotencyKey {
        IdempotencyKey { scope: format!("{caller} {}", self.route), key: self.key, fingerprint: self.fingerprint }
    }
}

/// A body together with the `Idempotency-Key` it came with, if it came with one.
#[derive(Debug, Clone)]
pub struct Keyed<B> {
    /// The parsed body.
    pub body: B,
    /// The caller's key; `None` if the header is absent.
    pub key: Option<PresentedKey>,
}

impl<B, S> FromRequest<S> for Keyed<B>
where
    B: FromBody,
    S: Send + Sync,
    Arc<dyn RequestFingerprint>: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let presented = presented_key(request.headers())?;
        let (head, bytes) = read(request).await?;
        let body = B::from_body(&head, &bytes)?;
        let key = presented.map(|key| {
            let fingerprint = Arc::<dyn RequestFingerprint>::from_ref(state);
            let fingerprint = fingerprint.fingerprint(&head.method, &target(&head), &bytes);
            PresentedKey::new(&key, fingerprint, &head.method, &route(&head))
        });
        Ok(Self { body, key })
    }
}

/// The key, if there is one: 1 to 255 visible ASCII characters, once.
fn presented_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let bytes = value.as_bytes();
    let visible = bytes.iter().all(u8::is_ascii_graphic);
    if values.next().is_some() || !visible || !(1..=MAX_KEY).contains(&bytes.len()) {
        return Err(Problem::new(code::BAD_REQUEST)
            .detail("Idempotency-Key takes one value of 1 to 255 visible ASCII characters"));
    }
    Ok(value.to_str().ok().map(str::to_owned))
}

/// The path and query as the client wrote them, whatever router this one is nested in.
fn target(head: &request::Parts) -> String {
    let uri = head.extensions.get::<OriginalUri>().map_or(&head.uri, |OriginalUri(uri)| uri);
    uri.path_and_query().map_or_else(|| uri.path().to_owned(), |target| target.as_str().to_owned())
}

fn route(head: &request::Parts) -> String {
    head.extensions.get::<MatchedPath>().map_or_else(|| head.uri.path().to_owned(), |path| path.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(values: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(IDEMPOTENCY_KEY, HeaderValue::from_bytes(value).expect("a header value"));
        }
        headers
    }

    #[test]
    fn a_key_has_1_to_255_visible_characters() {
        assert_eq!(None, presented_key(&headers(&[])).expect("no key"));
        assert!(presented_key(&headers(&[&[b'k'; 255]])).is_ok());
        for bad in [&b""[..], &[b'k'; 256], b"a b", "é".as_bytes()] {
            assert!(presented_key(&headers(&[bad])).is_err(), "{bad:?}");
        }
        assert!(presented_key(&headers(&[b"a", b"b"])).is_err());
    }

    #[test]
    fn the_same_key_of_two_callers_has_two_scopes() {
        let key = PresentedKey::new("k", [0; 32], &Method::POST, "/x");
        assert_ne!(key.clone().scoped("user_a").scope, key.scoped("user_b").scope);
    }
}
