//! `POST /uploads/tus`

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header::{HOST, LOCATION};
use http::{HeaderMap, HeaderValue, StatusCode};
use vidcore::auth::Actor;
use vidcore::storage::resumable::{JoinParts, OpenResumable, UploadTarget};
use vidcore::storage::{Upload, UploadView};

use super::append::append_body;
use super::concat::Concat;
use super::headers::{
    self, UPLOAD_CONCAT, UPLOAD_DEFER_LENGTH, UPLOAD_LENGTH, UPLOAD_METADATA, has_bytes, malformed, number, text,
};
use super::metadata::Metadata;
use crate::extract::Caller;
use crate::problem::{Problem, ProblemBody, code};
use crate::routes::{ApiState, render};

/// Opens a resumable upload
///
/// Its length is reserved in the quota. `Upload-Metadata` may name the video (`video_id`); otherwise a private draft is
/// made, called after `title`, `filename` or `name`. With its last byte the upload is complete by itself. A body is the
/// first bytes of the file. `Upload-Concat: partial` opens a part, `Upload-Concat: final;…` joins parts.
#[utoipa::path(
    post, path = "/uploads/tus", tag = "uploads", operation_id = "create_tus_upload", security(("bearer" = [])),
    request_body(content = Vec<u8>, content_type = "application/offset+octet-stream", description = "The first bytes, or none"),
    params(
        ("Tus-Resumable" = String, Header, description = "`1.0.0`"),
        ("Upload-Length" = Option<u64>, Header, description = "The file's size in bytes"),
        ("Upload-Defer-Length" = Option<String>, Header, description = "`1` to declare the size later"),
        ("Upload-Metadata" = Option<String>, Header, description = "Keys, each with a value in base64"),
        ("Upload-Concat" = Option<String>, Header, description = "`partial`, or `final;` and the URLs of parts"),
        ("Upload-Checksum" = Option<String>, Header, description = "Of the body: `sha1`, `sha256` or `crc32`, and base64"),
    ),
    responses(
        (status = 201, description = "The upload; its URL is in `Location`", body = UploadView),
        (status = 401, description = "`unauthenticated`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "`quota_exceeded`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "`not_found`: the video", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "`too_many_open_uploads`, `parts_not_joinable`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 412, description = "`tus_version_unsupported`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "`upload_too_large`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 423, description = "`upload_locked`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 460, description = "`upload_checksum_mismatch`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn create(
    State(state): State<ApiState>,
    Caller(actor): Caller,
    request: Request,
) -> Result<Response, Problem> {
    let has_bytes = has_bytes(&request)?;
    let upload = open(&state, &actor, request.headers(), has_bytes).await?;
    let location = location(&state, request.headers(), &upload);
    if !has_bytes {
        return Ok(created(&state, &upload, location));
    }
    match append_body(&state, &actor, upload.id, 0, request).await {
        Ok(upload) => Ok(created(&state, &upload, location)),
        // The upload is there all the same: the client can go on with it.
        Err(problem) => Err(problem.header(LOCATION, location)),
    }
}

async fn open(state: &ApiState, actor: &Actor, headers: &HeaderMap, has_bytes: bool) -> Result<Upload, Problem> {
    let said = text(headers, UPLOAD_METADATA)?;
    let metadata = Metadata::parse(said.unwrap_or_default())?;
    let (metadata_text, concatenation) = (said.map(str::to_owned), text(headers, UPLOAD_CONCAT)?.map(str::to_owned));
    let uploads = state.platform.uploads();
    let target = match Concat::of(headers)? {
        Concat::Whole => metadata.target()?,
        Concat::Part => UploadTarget::Part,
        Concat::Final(parts) => {
            if has_bytes || headers.contains_key(UPLOAD_LENGTH) || headers.contains_key(UPLOAD_DEFER_LENGTH) {
                return Err(malformed(&UPLOAD_CONCAT, "joins parts: there is no length and no body to say"));
            }
            let target = metadata.target()?;
            let input = JoinParts { target, parts, metadata: metadata_text, concatenation };
            return Ok(uploads.join(actor, input).await?);
        }
    };
    let input = OpenResumable { target, length: length(headers)?, metadata: metadata_text, concatenation };
    Ok(uploads.open_resumable(actor, input).await?)
}

/// The declared length; `None` if it is to be declared later.
fn length(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let deferred = match text(headers, UPLOAD_DEFER_LENGTH)? {
        None => false,
        Some("1") => true,
        Some(_) => return Err(malformed(&UPLOAD_DEFER_LENGTH, "can only be 1")),
    };
    match (number(headers, UPLOAD_LENGTH)?, deferred) {
        (Some(0), _) => Err(malformed(&UPLOAD_LENGTH, "is 0: no video is empty")),
        (Some(length), false) => Ok(Some(length)),
        (None, true) => Ok(None),
        _ => {
            Err(Problem::new(code::BAD_REQUEST).detail("either `upload-length` or `upload-defer-length: 1` is needed"))
        }
    }
}

fn created(state: &ApiState, upload: &Upload, location: HeaderValue) -> Response {
    let view: UploadView = state.platform.uploads().show(upload.clone());
    let mut response = render::json(StatusCode::CREATED, &view).into_response();
    response.headers_mut().insert(LOCATION, location);
    headers::progress(response.headers_mut(), upload);
    response
}

/// Absolute, because clients keep it. Where nobody has said under which URL the server is reached, it is the one the
/// client used.
fn location(state: &ApiState, headers: &HeaderMap, upload: &Upload) -> HeaderValue {
    let path = state.platform.links().tus_upload(upload.id);
    let origin = origin(&state.platform.settings().public_url, headers.get(HOST).and_then(|host| host.to_str().ok()));
    HeaderValue::from_str(&format!("{origin}{path}"))
        .unwrap_or_else(|_| HeaderValue::from_str(&path).expect("a path of this server is ASCII"))
}

fn origin(public_url: &str, host: Option<&str>) -> String {
    let uri: http::Uri = public_url.parse().unwrap_or_default();
    let (scheme, authority) = (uri.scheme_str().unwrap_or("http"), uri.authority().map(http::uri::Authority::as_str));
    let is_local = matches!(uri.host(), None | Some("localhost" | "127.0.0.1" | "[::1]"));
    let authority = host.filter(|_| is_local).or(authority).unwrap_or("localhost");
    format!("{scheme}://{authority}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_under_the_public_url_or_where_the_client_called() {
        assert_eq!("https://example.org", origin("https://example.org/media", Some("10.0.0.7:8080")));
        assert_eq!("http://10.0.0.7:8080", origin("http://127.0.0.1:8080", Some("10.0.0.7:8080")));
        assert_eq!("http://127.0.0.1:8080", origin("http://127.0.0.1:8080", None));
    }
}
