//! Sending viewers to the bucket, where the operator wants that.

use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, IF_MATCH, IF_RANGE, LOCATION};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use vidcore::media::playback::{PlayableObject, Playback};

use crate::problem::Problem;

/// 302 to a URL of the bucket (RFC 9110 §15.4.3), which is signed for `GET`, with any range; `None` where the bytes come
/// from here. Nothing may keep it: the URL ends, and the grant may before it.
pub(crate) async fn answer(
    playback: &Playback,
    playable: &PlayableObject,
    method: &Method,
    headers: &HeaderMap,
    disposition: &HeaderValue,
) -> Result<Option<Response>, Problem> {
    // The bucket has tags of its own for its objects: whoever holds one of ours is answered here.
    let names_ours = headers.contains_key(IF_MATCH) || headers.contains_key(IF_RANGE);
    if *method != Method::GET || names_ours {
        return Ok(None);
    }
    let disposition = disposition.to_str().map_err(Problem::internal)?;
    let Some(url) = playback.elsewhere(playable, disposition).await? else { return Ok(None) };
    let location = HeaderValue::from_str(&url).map_err(Problem::internal)?;
    let headers = [(LOCATION, location), (CACHE_CONTROL, HeaderValue::from_static("private, no-store"))];
    Ok(Some((StatusCode::FOUND, headers).into_response()))
}
