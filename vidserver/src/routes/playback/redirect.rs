//! Sending viewers to the bucket, where the operator wants that.

use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, LOCATION};
use http::{HeaderValue, Method, StatusCode};
use vidcore::media::playback::{PlayableObject, Playback};

use crate::problem::Problem;

/// 302 to a URL of the bucket (RFC 9110 §15.4.3), which is signed for `GET`, with any range; `None` where the bytes come
/// from here. Nothing may keep it: the URL ends, and the grant may before it.
pub(crate) async fn answer(
    playback: &Playback,
    playable: &PlayableObject,
    method: &Method,
    disposition: &HeaderValue,
) -> Result<Option<Response>, Problem> {
    if *method != Method::GET {
        return Ok(None);
    }
    let disposition = disposition.to_str().map_err(Problem::internal)?;
    let Some(url) = playback.elsewhere(playable, disposition).await? else { return Ok(None) };
    let location = HeaderValue::from_str(&url).map_err(Problem::internal)?;
    let headers = [(LOCATION, location), (CACHE_CONTROL, HeaderValue::from_static("private, no-store"))];
    Ok(Some((StatusCode::FOUND, headers).into_response()))
}
