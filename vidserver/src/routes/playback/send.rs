//! Sending playlists and objects: conditions, ranges, and what may be kept by whom.

use std::convert::Infallible;
use std::ops::Range;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_MATCH,
    IF_NONE_MATCH, IF_RANGE, ORIGIN, RANGE, REFERER,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use vidcore::catalog::Viewer;
use vidcore::media::hls::PLAYLIST_TYPE;
use vidcore::media::playback::{PlayableObject, Playback};
use vidcore::media::storyboard::INDEX_TYPE;
use vidcore::storage::Visitor;
use vidcore::storage::objects::sha256;
use vidcore::store::BoxError;

use crate::extract::CallerAddress;
use crate::extract::caller::Authentication;
use crate::problem::{Problem, code};
use crate::routes::playback::range::{self, Asked};
use crate::routes::playback::redirect;

/// What is in no table of media types, or made of what somebody uploaded and was not recognised.
const UNKNOWN: &str = "application/octet-stream";

/// How long a playlist of an open video may be kept: new renditions appear within that time.
const SHARED_PLAYLIST: &str = "public, max-age=60";

/// Segments of open videos never change: another attempt has another prefix, another epoch another path.
const SHARED_SEGMENT: &str = "public, max-age=31536000, immutable";

/// What a token opens is its holder's alone.
const PRIVATE: &str = "private, max-age=60";

/// What a request wants of a file besides its path.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    method: Method,
    headers: HeaderMap,
    visitor: Visitor,
    viewer: Option<Viewer>,
}

impl Wanted {
    /// The request's method.
    pub(crate) fn method(&self) -> &Method {
        &self.method
    }

    /// Who asks, as views know it: the account, where the request says one, else the network.
    pub(crate) fn viewer(&self) -> Option<Viewer> {
        self.viewer
    }

    /// Who asks, and from which page.
    pub(crate) fn visitor(&self) -> &Visitor {
        &self.visitor
    }
}

/// The origin of the page: browsers send `Origin` across origins, and else a `Referer`.
fn origin(headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    if let Some(origin) = text(ORIGIN) {
        return Some(origin.to_owned());
    }
    let (scheme, rest) = text(REFERER)?.split_once("://")?;
    let host = rest.split(['/', '?', '#']).next()?;
    Some(format!("{scheme}://{host}"))
}

impl<S: Send + Sync> FromRequestParts<S> for Wanted {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let address = parts.extensions.get::<CallerAddress>().map(|CallerAddress(address)| *address);
        let actor = parts.extensions.get::<Authentication>().and_then(|it| *it.found.as_ref().ok()?);
        let viewer = match actor {
            Some(actor) => Some(Viewer::User(actor.user)),
            None => address.map(|address| Viewer::Network(address.into())),
        };
        let visitor = Visitor { address, origin: origin(&parts.headers) };
        Ok(Self { method: parts.method.clone(), headers: parts.headers.clone(), visitor, viewer })
    }
}

/// A playlist made for this answer.
pub(crate) fn playlist(text: String, shared: bool, wanted: &Wanted) -> Result<Response, Problem> {
    let tag = tag(&sha256(text.as_bytes()));
    let cache = if shared { SHARED_PLAYLIST } else { PRIVATE };
    let headers = [(CACHE_CONTROL, HeaderValue::from_static(cache)), (ETAG, header(&tag))];
    if !is_expected(&wanted.headers, &tag) {
        return Err(Problem::new(code::VERSION_MISMATCH));
    }
    if holds(&wanted.headers, &tag) {
        return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
    }
    Ok((headers, [(CONTENT_TYPE, HeaderValue::from_static(PLAYLIST_TYPE))], text).into_response())
}

/// A stored object, whole or in part, streamed.
pub(crate) async fn object(
    playback: &Playback,
    playable: &PlayableObject,
    wanted: &Wanted,
) -> Result<Response, Problem> {
    let disposition = if playable.media_type().is_some() { "inline" } else { "attachment" };
    object_called(playback, playable, wanted, HeaderValue::from_static(disposition)).await
}

/// The same with a `Content-Disposition`.
pub(crate) async fn object_called(
    playback: &Playback,
    playable: &PlayableObject,
    wanted: &Wanted,
    disposition: HeaderValue,
) -> Result<Response, Problem> {
    let object = &playable.object;
    let tag = tag(&object.sha256);
    let mut headers = HeaderMap::new();
    headers.insert(ETAG, header(&tag));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache_control(playable)));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if !is_expected(&wanted.headers, &tag) {
        return Err(Problem::new(code::VERSION_MISMATCH));
    }
    if holds(&wanted.headers, &tag) {
        return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
    }
    if let Some(answer) = redirect::answer(playback, playable, &wanted.method, &wanted.headers, &disposition).await? {
        return Ok(answer);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(playable.media_type().unwrap_or(UNKNOWN)));
    headers.insert(CONTENT_DISPOSITION, disposition);
    let size = object.size_bytes;
    let (status, part) = match asked(wanted, &tag, size) {
        Asked::Whole => (StatusCode::OK, None),
        Asked::Part(part) => {
            let text = format!("bytes {}-{}/{size}", part.start, part.end - 1);
            headers.insert(CONTENT_RANGE, header(&text));
            (StatusCode::PARTIAL_CONTENT, Some(part))
        }
        Asked::Parts(parts) => return Ok(several(playback, playable, headers, parts)),
        Asked::Unsatisfiable => {
            let problem = Problem::new(code::RANGE_NOT_SATISFIABLE);
            return Err(problem.header(CONTENT_RANGE, header(&format!("bytes */{size}"))));
        }
    };
    let length = part.as_ref().map_or(size, |part| part.end - part.start);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    if wanted.method == Method::HEAD {
        return Ok((status, headers).into_response());
    }
    let bytes = playback.bytes(playable, part).await?;
    Ok((status, headers, Body::from_stream(bytes)).into_response())
}

/// Several parts, each with its place (RFC 9110 §14.6), read one after the other as they are sent.
fn several(playback: &Playback, playable: &PlayableObject, mut headers: HeaderMap, parts: Vec<Range<u64>>) -> Response {
    let (object, media_type) = (&playable.object, playable.media_type().unwrap_or(UNKNOWN));
    // No part of the bytes can hold a hash of all of them, but by chance.
    let boundary = hex::encode(&object.sha256[16..]);
    let heads = parts.iter().map(|part| {
        let place = format!("bytes {}-{}/{}", part.start, part.end - 1, object.size_bytes);
        format!("\r\n--{boundary}\r\ncontent-type: {media_type}\r\ncontent-range: {place}\r\n\r\n")
    });
    let heads: Vec<Bytes> = heads.map(Bytes::from).collect();
    let end = Bytes::from(format!("\r\n--{boundary}--\r\n"));
    let bytes: u64 = parts.iter().map(|part| part.end - part.start).sum();
    let frame = heads.iter().chain([&end]).map(|head| head.len() as u64).sum::<u64>();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes + frame));
    headers.insert(CONTENT_TYPE, header(&format!("multipart/byteranges; boundary={boundary}")));
    let (playback, playable) = (playback.clone(), playable.clone());
    let parts = stream::iter(heads.into_iter().zip(parts)).then(move |(head, part)| {
        let (playback, playable) = (playback.clone(), playable.clone());
        async move {
            let bytes = playback.bytes(&playable, Some(part)).await.map_err(BoxError::from)?;
            Ok::<_, BoxError>(stream::iter([Ok(head)]).chain(bytes.map_err(BoxError::from)))
        }
    });
    let body = parts.try_flatten().chain(stream::iter([Ok(end)]));
    (StatusCode::PARTIAL_CONTENT, headers, Body::from_stream(body)).into_response()
}

fn cache_control(playable: &PlayableObject) -> &'static str {
    // A storyboard's name stays when a new source gets another; the sheets it names have names of their own.
    let is_index = matches!(playable.media_type(), Some(PLAYLIST_TYPE | INDEX_TYPE));
    match (playable.shared, is_index) {
        (true, true) => SHARED_PLAYLIST,
        (true, false) => SHARED_SEGMENT,
        (false, _) => PRIVATE,
    }
}

/// What the request asks for. `If-Range` with another tag, or with a date, asks for the whole
/// (RFC 9110 §13.1.5), and so does every method but GET (§14.2).
fn asked(Wanted { method, headers, .. }: &Wanted, tag: &str, size: u64) -> Asked {
    let current = headers.get(IF_RANGE).is_none_or(|condition| condition.as_bytes() == tag.as_bytes());
    match headers.get(RANGE).and_then(|value| value.to_str().ok()) {
        Some(header) if current && method == Method::GET => range::parse(header, size),
        _ => Asked::Whole,
    }
}

/// Whether `If-Match`, where there is one, names the tag (strong comparison, RFC 9110 §13.1.1). It comes before every other
/// condition (§13.2.2).
fn is_expected(request: &HeaderMap, tag: &str) -> bool {
    let mut values = request.get_all(IF_MATCH).iter().filter_map(|value| value.to_str().ok()).peekable();
    values.peek().is_none()
        || values.any(|value| value.split(',').map(str::trim).any(|wanted| wanted == "*" || wanted == tag))
}

/// Whether `If-None-Match` names the tag (weak comparison, RFC 9110 §13.1.2).
fn holds(request: &HeaderMap, tag: &str) -> bool {
    request
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').map(str::trim).any(|held| held == "*" || held.trim_start_matches("W/") == tag))
}

/// A strong tag of the bytes: the first 128 bits of their hash.
fn tag(sha256: &[u8; 32]) -> String {
    format!("\"{}\"", hex::encode(&sha256[..16]))
}

fn header(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(UNKNOWN))
}
