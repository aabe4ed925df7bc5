//! gzip for JSON that is worth it.

use http::header::{ACCEPT_ENCODING, CONTENT_TYPE, ETAG};
use http::{Extensions, HeaderMap, HeaderValue, StatusCode, Version};
use tower_http::compression::predicate::{And, Predicate, SizeAbove};
use tower_http::compression::{CompressionLayer, CompressionLevel};

/// Below this many bytes a packet is saved nothing.
const WORTH_IT: u64 = 1024;

type Rule = fn(StatusCode, Version, &HeaderMap, &Extensions) -> bool;

/// Compresses JSON above 1 KiB. An answer with a strong `ETag` is left as it is: the tag stands for
/// its very bytes (RFC 9110 §8.8.1), and a resource that has one is small.
pub(crate) fn compression() -> CompressionLayer<And<SizeAbove, Rule>> {
    let rule: Rule = |_, _, headers, _| is_json(headers) && !has_strong_tag(headers);
    CompressionLayer::new()
        .gzip(true)
        .quality(CompressionLevel::Fastest)
        .compress_when(SizeAbove::new(WORTH_IT).and(rule))
}

/// Makes the plain form acceptable to every caller, as the last choice.
///
/// Where a caller excludes it (`identity;q=0`, `*;q=0`), tower-http puts 406 in place of the status of
/// a request that has been carried out. RFC 9110 §12.5.3 lets a server disregard the exclusion.
pub(crate) fn accept_plain(headers: &mut HeaderMap) {
    let weighed = headers.get_all(ACCEPT_ENCODING).iter().any(|value| value.as_bytes().contains(&b';'));
    if weighed {
        // In front, because the first of two weights is the one that counts.
        let asked: Vec<HeaderValue> = headers.get_all(ACCEPT_ENCODING).iter().cloned().collect();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity;q=0.001"));
        for value in asked {
            headers.append(ACCEPT_ENCODING, value);
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    // Problems are left out: the envelope renders them once more, after this layer.
    essence == "application/json"
}

fn has_strong_tag(headers: &HeaderMap) -> bool {
    headers.get(ETAG).is_some_and(|tag| !tag.as_bytes().starts_with(b"W/"))
}
