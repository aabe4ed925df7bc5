//! Where the uploads of this server are, as its clients see it.

use axum::extract::Request;
use http::header::HOST;
use http::uri::Authority;
use http::{HeaderValue, Uri};
use url::Url;
use vidcore::id::UploadId;
use vidcore::storage::{UploadError, UploadSignature};

use super::holder::signature;
use crate::routes::ApiState;

/// What the URL of a part says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PartUrl {
    pub(super) id: UploadId,
    /// Stands for a token where none is sent.
    pub(super) signature: Option<UploadSignature>,
}

/// The URL of this protocol: uploads lie below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Scheme and authority, such as `https://example.org`.
    origin: String,
    /// The path, without a slash at its end.
    path: String,
}

impl Place {
    /// Where nobody has said under which URL the server is reached, it is the one the client used.
    pub(super) fn of(state: &ApiState, request: &Request) -> Self {
        let origin = origin(&state.platform.settings().public_url, host(request));
        Self { origin, path: state.platform.links().tus() }
    }

    /// The URL of an upload with its signed query: absolute, because clients keep it.
    pub(super) fn location(&self, upload: UploadId, query: &str) -> HeaderValue {
        let path = format!("{}/{upload}?{query}", self.path);
        HeaderValue::from_str(&format!("{}{path}", self.origin))
            .unwrap_or_else(|_| HeaderValue::from_str(&path).expect("a path of this server is ASCII"))
    }

    /// The upload that a URL leads to, absolute or relative to this place (RFC 3986 §5). Whose it is, is asked later.
    ///
    /// `None` for what names no upload anywhere.
    ///
    /// # Errors
    /// [`UploadError::BadPart`] at `position` for an upload that is elsewhere: of another origin or below another path.
    pub(super) fn part(&self, position: usize, text: &str) -> Result<Option<PartUrl>, UploadError> {
        let Ok(here) = Url::parse(&format!("{}{}", self.origin, self.path)) else { return Ok(None) };
        let Ok(url) = here.join(text) else { return Ok(None) };
        let Some((below, id)) = url.path().rsplit_once('/') else { return Ok(None) };
        let Ok(id) = id.parse() else { return Ok(None) };
        let is_anonymous = url.username().is_empty() && url.password().is_none();
        let is_here = url.origin() == here.origin() && below == here.path() && is_anonymous;
        let part = PartUrl { id, signature: url.query().and_then(signature) };
        if is_here { Ok(Some(part)) } else { Err(UploadError::BadPart { position }) }
    }
}

/// The server as the client calls it; on HTTP/2 that is the authority of the URL (RFC 9113 §8.3.1).
fn host(request: &Request) -> Option<&str> {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    host.or_else(|| request.uri().authority().map(Authority::as_str))
}

fn origin(public_url: &str, host: Option<&str>) -> String {
    let uri: Uri = public_url.parse().unwrap_or_default();
    let (scheme, authority) = (uri.scheme_str().unwrap_or("http"), uri.authority().map(Authority::as_str));
    let is_local = matches!(uri.host(), None | Some("localhost" | "127.0.0.1" | "[::1]"));
    let authority = host.filter(|_| is_local).or(authority).unwrap_or("localhost");
    format!("{scheme}://{authority}")
}

#[cfg(test)]
impl Place {
    /// A place on a server of its own.
    pub(super) fn example() -> Self {
        Self { origin: "https://example.org".to_owned(), path: "/media/api/v1/uploads/tus".to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_under_the_public_url_or_where_the_client_called() {
        assert_eq!("https://example.org", origin("https://example.org/media", Some("10.0.0.7:8080")));
        assert_eq!("http://10.0.0.7:8080", origin("http://127.0.0.1:8080", Some("10.0.0.7:8080")));
        assert_eq!("http://127.0.0.1:8080", origin("http://127.0.0.1:8080", None));
    }

    #[test]
    fn the_client_names_the_server_in_a_header_or_in_the_url() {
        let request = |uri: &str, host: Option<&str>| {
            let mut request = Request::new(axum::body::Body::empty());
            *request.uri_mut() = uri.parse().expect("a URI");
            if let Some(host) = host {
                request.headers_mut().insert(HOST, host.parse().expect("a header"));
            }
            request
        };
        assert_eq!(Some("a:1"), host(&request("/path", Some("a:1"))));
        assert_eq!(Some("b:2"), host(&request("http://b:2/path", None)));
        assert_eq!(None, host(&request("/path", None)));
    }

    #[test]
    fn a_url_leads_to_an_upload_here_or_elsewhere_or_to_none() {
        let (place, id) = (Place::example(), UploadId::from_bytes([1; 16]));
        let location = place.location(id, "expires=7&kid=a&signature=b");
        for here in
            [location.to_str().expect("ASCII"), &format!("tus/{id}"), &format!("/media/api/v1/uploads/tus/{id}?a=b#c")]
        {
            assert!(matches!(place.part(0, here), Ok(Some(found)) if found.id == id), "{here}");
        }
        for elsewhere in
            ["https://example.net/media/api/v1/uploads/tus/", "/api/v1/uploads/tus/", "", "/media/api/v1/uploads/"]
        {
            let part = place.part(7, &format!("{elsewhere}{id}"));
            assert!(matches!(part, Err(UploadError::BadPart { position: 7 })), "{elsewhere}");
        }
        let whose = location.to_str().expect("ASCII").replace("://", "://somebody@");
        assert!(matches!(place.part(7, &whose), Err(UploadError::BadPart { position: 7 })), "{whose}");
        for none in ["", "x", "https://", "/media/api/v1/uploads/tus/", "mailto:a@example.org"] {
            assert!(matches!(place.part(0, none), Ok(None)), "{none}");
        }
    }
}
