//! The id under which logs, answers and problems speak of a request.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use vidcore::entropy::{Entropy, EntropyExt};

/// The header that carries it, both ways.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id taken from a client, in bytes.
const MAX_LEN: usize = 64;

/// The request's id: a proxy's or client's own if it is 1 to 64 letters, digits, `.`, `_` or `-`;
/// else 16 random bytes in hex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// The id as text, fit for a header and a log line.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Takes the client's id, or draws one.
    pub(crate) fn choose(headers: &HeaderMap, entropy: &dyn Entropy) -> Self {
        let sent = headers.get(X_REQUEST_ID).and_then(|value| value.to_str().ok()).filter(|text| is_sane(text));
        match sent {
            Some(text) => Self(text.into()),
            None => Self(format!("{:032x}", u128::from_be_bytes(entropy.bytes())).into()),
        }
    }

    pub(crate) fn header_value(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).expect("an id holds only what a header may")
    }
}

/// Fails only on a route that was put outside the envelope, which is a defect.
impl<S: Send + Sync> FromRequestParts<S> for RequestId {
    type Rejection = crate::problem::Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        parts.extensions.get().cloned().ok_or_else(|| crate::problem::Problem::internal("no request id was given out"))
    }
}

fn is_sane(text: &str) -> bool {
    (1..=MAX_LEN).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use vidcore::entropy::SeededEntropy;

    use super::*;

    fn chosen(sent: Option<&'static [u8]>) -> String {
        let mut headers = HeaderMap::new();
        if let Some(sent) = sent {
            headers.insert(X_REQUEST_ID, HeaderValue::from_bytes(sent).expect("a header value"));
        }
        RequestId::choose(&headers, &SeededEntropy::new(1)).as_str().to_owned()
    }

    #[test]
    fn a_sane_id_is_kept_and_any_other_is_replaced() {
        let drawn = chosen(None);
        assert_eq!(32, drawn.len());
        assert_eq!("req-1.a_B", chosen(Some(b"req-1.a_B")));
        for bad in [&b""[..], b"a b", b"a\xffb", b"{\"x\":1}", &[b'a'; 65]] {
            assert_eq!(drawn, chosen(Some(bad)), "{bad:?}");
        }
    }
}
