//! Headers that tell browsers what an answer of an API is not.

use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Nothing of an API answer is ever run, framed or loaded from.
const API_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";

/// One year, the least that browsers' preload lists take.
const HSTS: &str = "max-age=31536000";

/// The headers, decided once.
#[derive(Debug, Clone)]
pub(crate) struct SecurityHeaders {
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl SecurityHeaders {
    /// With `Strict-Transport-Security` only where clients come over TLS (RFC 6797 §7.2).
    pub(crate) fn new(https: bool) -> Self {
        let mut headers = vec![
            (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
            (CONTENT_SECURITY_POLICY, HeaderValue::from_static(API_POLICY)),
            // What may be kept says so itself.
            (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ];
        if https {
            headers.push((STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(HSTS)));
        }
        Self { headers }
    }

    /// Adds each header the route did not set itself.
    pub(crate) fn apply(&self, to: &mut HeaderMap) {
        for (name, value) in &self.headers {
            to.entry(name).or_insert_with(|| value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_may_say_otherwise() {
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=60"));
        SecurityHeaders::new(false).apply(&mut headers);
        assert_eq!("public, max-age=60", headers[CACHE_CONTROL]);
        assert_eq!(API_POLICY, headers[CONTENT_SECURITY_POLICY]);
        assert!(!headers.contains_key(STRICT_TRANSPORT_SECURITY));
    }

    #[test]
    fn strict_transport_is_promised_only_over_tls() {
        let mut headers = HeaderMap::new();
        SecurityHeaders::new(true).apply(&mut headers);
        assert_eq!(HSTS, headers[STRICT_TRANSPORT_SECURITY]);
    }
}
