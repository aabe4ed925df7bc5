//! Codings of bodies whose bytes are counted and hashed as they come: there may be none.
//!
//! An offset, a length and a hash are those of the file; under a coding they would be of something else.

use axum::extract::Request;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::problem::{Problem, code};

/// Why a request that brings bytes cannot be taken as it is coded, if it cannot.
///
/// 501 for transfer codings other than `chunked` alone (RFC 9112 §6.1): hyper looks at the last one and would pass the
/// others on undone. 415 for content codings (RFC 9110 §15.5.16).
pub(super) fn refuse(request: &Request) -> Option<Problem> {
    if !matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH) {
        return None;
    }
    let headers = request.headers();
    if headers.contains_key(TRANSFER_ENCODING) && !is_chunked_alone(headers) {
        return Some(Problem::new(code::TRANSFER_CODING_UNSUPPORTED));
    }
    if codings(headers, CONTENT_ENCODING).all(|coding| coding.eq_ignore_ascii_case("identity")) {
        return None;
    }
    let problem = Problem::new(code::UNSUPPORTED_MEDIA_TYPE).detail("bytes are sent without `content-encoding`");
    Some(problem.header(ACCEPT_ENCODING, HeaderValue::from_static("identity")))
}

fn is_chunked_alone(headers: &HeaderMap) -> bool {
    let mut codings = codings(headers, TRANSFER_ENCODING);
    codings.next().is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) && codings.next().is_none()
}

/// The members of a list that may stand in several lines; what is no text is a coding nobody knows.
fn codings(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).into_iter().map(|line| line.to_str().unwrap_or("?"));
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|coding| !coding.is_empty())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn status(method: Method, headers: &[(HeaderName, &'static str)]) -> Option<u16> {
        let mut request = Request::new(Body::empty());
        *request.method_mut() = method;
        for (name, value) in headers {
            request.headers_mut().append(name, HeaderValue::from_static(value));
        }
        refuse(&request).map(|problem| problem.code().status)
    }

    #[test]
    fn chunked_alone_is_a_transfer_coding() {
        for good in ["chunked", "Chunked", ", chunked ,"] {
            assert_eq!(None, status(Method::PUT, &[(TRANSFER_ENCODING, good)]), "{good}");
        }
        for bad in ["gzip, chunked", "chunked, chunked", "identity", "gzip", "", "chunked;q=1"] {
            assert_eq!(Some(501), status(Method::PUT, &[(TRANSFER_ENCODING, bad)]), "{bad}");
        }
        assert_eq!(Some(501), status(Method::PUT, &[(TRANSFER_ENCODING, "gzip"), (TRANSFER_ENCODING, "chunked")]));
    }

    #[test]
    fn identity_is_no_content_coding_and_reading_brings_no_bytes() {
        for good in ["identity", "Identity, identity", ""] {
            assert_eq!(None, status(Method::PATCH, &[(CONTENT_ENCODING, good)]), "{good}");
        }
        for bad in ["gzip", "identity, br", "*"] {
            assert_eq!(Some(415), status(Method::POST, &[(CONTENT_ENCODING, bad)]), "{bad}");
            assert_eq!(None, status(Method::GET, &[(CONTENT_ENCODING, bad)]), "{bad}");
        }
    }
}
