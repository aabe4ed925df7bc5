//! JSON bodies: bounded bytes first, then syntax, shape and rules.

use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use garde::Validate;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, request};
use http_body::Body as _;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use super::json;
use crate::middleware::body_guard::BodyStalled;
use crate::problem::{Problem, code};

/// The most bytes of a JSON body, put into the request by the stack; 256 KiB where none did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxBody(pub usize);

impl Default for MaxBody {
    fn default() -> Self {
        Self(256 * 1024)
    }
}

/// A value made from a whole body and the head it came with.
pub trait FromBody: Sized {
    /// Parses `bytes`.
    ///
    /// # Errors
    /// 415, 400 or 422 as the case may be.
    fn from_body(head: &request::Parts, bytes: &Bytes) -> Result<Self, Problem>;
}

/// An `application/json` body that has passed its rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned + Validate<Context = ()>> FromBody for Json<T> {
    fn from_body(head: &request::Parts, bytes: &Bytes) -> Result<Self, Problem> {
        require_type(&head.headers, &["application/json"])?;
        json::parse(bytes).map(Self)
    }
}

/// A JSON merge patch (RFC 7396), as `application/merge-patch+json` or `application/json`.
///
/// Members that may be taken away are `Option<Option<T>>` with `#[serde(default, deserialize_with =
/// "present")]`: absent is `None`, `null` is `Some(None)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MergePatch<T>(pub T);

impl<T: DeserializeOwned + Validate<Context = ()>> FromBody for MergePatch<T> {
    fn from_body(head: &request::Parts, bytes: &Bytes) -> Result<Self, Problem> {
        require_type(&head.headers, &["application/merge-patch+json", "application/json"])?;
        json::parse(bytes).map(Self)
    }
}

/// No body. One that is not empty is refused, so that a client does not believe it was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Empty;

impl FromBody for Empty {
    fn from_body(_: &request::Parts, bytes: &Bytes) -> Result<Self, Problem> {
        match bytes.is_empty() {
            true => Ok(Self),
            false => Err(Problem::new(code::BAD_REQUEST).detail("this request takes no body")),
        }
    }
}

impl<T, S> FromRequest<S> for Json<T>
where
    T: DeserializeOwned + Validate<Context = ()>,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        read_as(request).await
    }
}

impl<T, S> FromRequest<S> for MergePatch<T>
where
    T: DeserializeOwned + Validate<Context = ()>,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        read_as(request).await
    }
}

impl<S: Send + Sync> FromRequest<S> for Empty {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        read_as(request).await
    }
}

/// Tells a member that is `null` from one that is absent; for `#[serde(deserialize_with)]`.
///
/// # Errors
/// The deserializer's own.
pub fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

/// Reads a whole body of at most the request's [`MaxBody`].
///
/// # Errors
/// 413 before a byte is read if the length is declared and too large, otherwise as soon as too many
/// came; 408 if they came too slowly; 400 if the sender broke off.
pub(crate) async fn read(request: Request) -> Result<(request::Parts, Bytes), Problem> {
    let (head, body) = request.into_parts();
    let max = head.extensions.get::<MaxBody>().copied().unwrap_or_default().0;
    if body.size_hint().lower() > max as u64 {
        return Err(too_large(max));
    }
    match Limited::new(body, max).collect().await {
        Ok(collected) => Ok((head, collected.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large(max)),
        Err(error) if BodyStalled::is_behind(error.as_ref()) => Err(Problem::new(code::REQUEST_TIMEOUT)),
        Err(error) => Err(Problem::new(code::BODY_INCOMPLETE).caused_by(error)),
    }
}

async fn read_as<B: FromBody>(request: Request) -> Result<B, Problem> {
    let (head, bytes) = read(request).await?;
    B::from_body(&head, &bytes)
}

fn too_large(max: usize) -> Problem {
    Problem::new(code::BODY_TOO_LARGE).detail(format!("at most {max} bytes are taken"))
}

/// Compares type and subtype without case; a charset other than UTF-8 is refused (RFC 8259 §8.1).
fn require_type(headers: &HeaderMap, accepted: &[&str]) -> Result<(), Problem> {
    let unsupported = || Problem::new(code::UNSUPPORTED_MEDIA_TYPE).detail(format!("send {}", accepted.join(" or ")));
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let value = values.next().and_then(|value| value.to_str().ok()).ok_or_else(unsupported)?;
    let mut parts = value.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    let known = accepted.iter().any(|accepted| essence.eq_ignore_ascii_case(accepted));
    let utf8 = parts.all(|parameter| match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    });
    if known && utf8 && values.next().is_none() { Ok(()) } else { Err(unsupported()) }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn accepts(content_type: &'static str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        require_type(&headers, &["application/json"]).is_ok()
    }

    #[test]
    fn json_is_taken_in_utf8_only() {
        for good in ["application/json", "Application/JSON; charset=UTF-8", "application/json;charset=\"utf-8\""] {
            assert!(accepts(good), "{good}");
        }
        for bad in ["", "text/plain", "application/jsonx", "application/json; charset=latin1"] {
            assert!(!accepts(bad), "{bad}");
        }
    }

    #[test]
    fn two_content_types_are_none() {
        let mut headers = HeaderMap::new();
        headers.append(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.append(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        assert!(require_type(&headers, &["application/json"]).is_err());
    }

    #[test]
    fn null_is_not_absent() {
        #[derive(Debug, Deserialize, PartialEq)]
        struct Patch {
            #[serde(default, deserialize_with = "present")]
            note: Option<Option<String>>,
        }
        let patch = |text| serde_json::from_str::<Patch>(text).expect("a patch").note;
        assert_eq!(None, patch("{}"));
        assert_eq!(Some(None), patch(r#"{"note":null}"#));
        assert_eq!(Some(Some("x".to_owned())), patch(r#"{"note":"x"}"#));
    }
}
