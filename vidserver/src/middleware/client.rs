//! Who is at the other end: the socket's peer, and what proxies say about it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Once;

use axum::extract::ConnectInfo;
use http::header::FORWARDED;
use http::{Extensions, HeaderMap, HeaderName};

/// The header proxies append the peer they saw to.
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The address a request comes from, as `resolve` sees it: given the peer, the `Forwarded` lines and
/// the `X-Forwarded-For` lines, it believes those of trusted proxies alone.
///
/// `None` if the program that nests the router gives no [`ConnectInfo`]; then all callers share one
/// bucket, which is logged once.
pub fn client_address(
    extensions: &Extensions,
    headers: &HeaderMap,
    resolve: impl FnOnce(IpAddr, &[&str], &[&str]) -> IpAddr,
) -> Option<IpAddr> {
    let Some(ConnectInfo(peer)) = extensions.get::<ConnectInfo<SocketAddr>>() else {
        warn_once();
        return None;
    };
    Some(resolve(peer.ip(), &lines(headers, &FORWARDED), &lines(headers, &X_FORWARDED_FOR)))
}

/// The lines of a header in order. One that is not text stays as an empty one: nobody is found in it,
/// and the lines around it keep their places.
fn lines<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a str> {
    headers.get_all(name).iter().map(|line| line.to_str().unwrap_or_default()).collect()
}

fn warn_once() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing::warn!("no ConnectInfo<SocketAddr>: every caller shares one address in rate limits");
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peer_and_all_lines_are_handed_over_in_order() {
        let mut extensions = Extensions::new();
        extensions.insert(ConnectInfo(SocketAddr::from(([192, 0, 2, 1], 1))));
        let mut headers = HeaderMap::new();
        for line in ["a, b", "c"] {
            headers.append(X_FORWARDED_FOR, http::HeaderValue::from_static(line));
        }
        let found = client_address(&extensions, &headers, |peer, forwarded, x_forwarded_for| {
            assert!(forwarded.is_empty());
            assert_eq!(["a, b", "c"], x_forwarded_for);
            peer
        });
        assert_eq!(Some(IpAddr::from([192, 0, 2, 1])), found);
    }

    #[test]
    fn without_connect_info_there_is_no_address() {
        assert_eq!(None, client_address(&Extensions::new(), &HeaderMap::new(), |peer, _, _| peer));
    }
}
