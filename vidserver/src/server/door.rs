//! Requests that are refused before any route sees them: those whose target or end is not certain.

use http::header::HOST;
use http::uri::Authority;
use http::{HeaderValue, Request, Version};

use super::framing::HeadWatch;
use crate::problem::{Problem, code};

/// Why a request is not served, if it is not.
pub(super) fn refuse<B>(request: &Request<B>, heads: &HeadWatch) -> Option<Problem> {
    // Asked in any case: it counts requests.
    let ambiguous = request.version() <= Version::HTTP_11 && heads.next_is_ambiguous();
    let bad = |detail| Some(Problem::new(code::BAD_REQUEST).detail(detail));
    if ambiguous {
        return bad("Content-Length and Transfer-Encoding exclude each other, and a length has few digits");
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if request.version() == Version::HTTP_11 => bad("Host is missing"),
        (None, _) => None,
        (Some(_), Some(_)) => bad("Host is given more than once"),
        (Some(host), None) if !is_host(host) => bad("Host is malformed"),
        (Some(host), None) if contradicts_authority(request, host) => bad("Host and :authority differ"),
        (Some(_), None) => None,
    }
}

/// A name or address with an optional port and no user information (RFC 9110 §7.2).
fn is_host(host: &HeaderValue) -> bool {
    let Ok(text) = host.to_str() else { return false };
    let Ok(authority) = text.parse::<Authority>() else { return false };
    // The port may be empty (RFC 3986 §3.2.3).
    let port = authority.as_str().strip_prefix(authority.host()).unwrap_or("@");
    let port_is_fine = matches!(port, "" | ":") || authority.port_u16().is_some();
    !text.contains('@') && !authority.host().is_empty() && port_is_fine
}

/// On HTTP/2 both may be sent, and then must agree (RFC 9113 §8.3.1).
fn contradicts_authority<B>(request: &Request<B>, host: &HeaderValue) -> bool {
    request.version() == Version::HTTP_2
        && request
            .uri()
            .authority()
            .is_some_and(|authority| !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(version: Version, hosts: &[&str]) -> Option<String> {
        let mut request = Request::new(());
        *request.version_mut() = version;
        for host in hosts {
            request.headers_mut().append(HOST, host.parse().expect("a header value"));
        }
        refuse(&request, &HeadWatch::default()).map(|problem| problem.body("", None, None).detail.unwrap_or_default())
    }

    #[test]
    fn http_1_1_needs_exactly_one_well_formed_host() {
        assert_eq!(Some("Host is missing".to_owned()), refusal(Version::HTTP_11, &[]));
        assert_eq!(Some("Host is given more than once".to_owned()), refusal(Version::HTTP_11, &["a", "a"]));
        for bad in ["", "a b", "a/b", "user@a", "a:port", "a:99999", "[::1", ":80"] {
            assert_eq!(Some("Host is malformed".to_owned()), refusal(Version::HTTP_11, &[bad]), "{bad:?}");
        }
        for good in ["a", "a.example:8080", "127.0.0.1", "[::1]:80", "a:"] {
            assert_eq!(None, refusal(Version::HTTP_11, &[good]), "{good:?}");
        }
    }

    #[test]
    fn older_and_newer_versions_may_go_without() {
        assert_eq!(None, refusal(Version::HTTP_10, &[]));
        assert_eq!(None, refusal(Version::HTTP_2, &[]));
        assert!(refusal(Version::HTTP_10, &["a", "b"]).is_some());
    }

    #[test]
    fn host_and_authority_must_agree() {
        let mut request = Request::get("http://a.example/").body(()).expect("a request");
        *request.version_mut() = Version::HTTP_2;
        request.headers_mut().insert(HOST, HeaderValue::from_static("b.example"));
        assert!(refuse(&request, &HeadWatch::default()).is_some());
        request.headers_mut().insert(HOST, HeaderValue::from_static("A.example"));
        assert!(refuse(&request, &HeadWatch::default()).is_none());
    }
}
