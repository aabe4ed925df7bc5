//! `POST /uploads/tus`

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header::LOCATION;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::Body as _;
use vidcore::auth::Actor;
use vidcore::storage::resumable::{AppendBytes, JoinParts, OpenResumable, UploadTarget, Uploader};
use vidcore::storage::{Upload, UploadView};

use super::append::{append_body, refusal};
use super::concat::Concat;
use super::headers::{
    self, UPLOAD_CONCAT, UPLOAD_DEFER_LENGTH, UPLOAD_LENGTH, UPLOAD_METADATA, checksum, has_bytes, malformed, number,
    text,
};
use super::holder::Presented;
use super::metadata::Metadata;
use super::place::{PartUrl, Place};
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
        (status = 201, description = "The upload; its URL is in `Location`, with a query that lets whoever holds it go on", body = UploadView),
        (status = 401, description = "`unauthenticated`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "`quota_exceeded`, `invalid_signature`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "`not_found`: the video", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "`too_many_open_uploads`, `parts_not_joinable`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 410, description = "`upload_expired`: the URL of a part has", body = ProblemBody, content_type = "application/problem+json"),
        (status = 412, description = "`tus_version_unsupported`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "`upload_too_large`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 423, description = "`upload_locked`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 460, description = "`upload_checksum_mismatch`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 501, description = "`transfer_coding_unsupported`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn create(
    State(state): State<ApiState>,
    Presented { actor, refusal }: Presented,
    request: Request,
) -> Result<Response, Problem> {
    let place = Place::of(&state, &request);
    let (upload, input, body) = match (Concat::of(request.headers(), &place), actor) {
        (Ok(Concat::Final(parts)), actor) => {
            let has_bytes = first_bytes(&request)?.is_some();
            (join(&state, actor.ok_or(refusal), parts, request.headers(), has_bytes).await?, None, Body::empty())
        }
        (_, None) => return Err(refusal),
        (concat, Some(actor)) => {
            let (is_part, input) = (concat? == Concat::Part, first_bytes(&request)?);
            let announced = input.as_ref().and_then(|input| input.announced);
            let upload = open(&state, &actor, request.headers(), is_part, announced).await?;
            (upload, input.map(|input| (Uploader::from(&actor), input)), request.into_body())
        }
    };
    let location = place.location(upload.id, &state.platform.uploads().resume_query(&upload));
    let Some((who, input)) = input else { return Ok(created(&state, &upload, location)) };
    match append_body(&state, who, upload.id, input, body).await {
        Ok(upload) => Ok(created(&state, &upload, location)),
        // The upload is there all the same, and the client is told where: it can go on with it, or give it up.
        Err(problem) => Err(problem.header(LOCATION, location)),
    }
}

/// The bytes that come along, if any do. What is said about them is read in any case.
fn first_bytes(request: &Request) -> Result<Option<AppendBytes>, Problem> {
    let (has_bytes, checksum) = (has_bytes(request)?, checksum(request.headers())?);
    let announced = request.body().size_hint().exact();
    Ok(has_bytes.then_some(AppendBytes { offset: 0, length: None, announced, checksum }))
}

/// Everything that can be known to be wrong before the first byte is asked before anything is opened.
async fn open(
    state: &ApiState,
    actor: &Actor,
    headers: &HeaderMap,
    is_part: bool,
    announced: Option<u64>,
) -> Result<Upload, Problem> {
    let (said, metadata) = metadata(headers)?;
    let target = if is_part { UploadTarget::Part } else { metadata.target()? };
    let concatenation = text(headers, UPLOAD_CONCAT)?.map(str::to_owned);
    let input = OpenResumable { target, length: length(headers)?, announced, metadata: said, concatenation };
    state.platform.uploads().open_resumable(actor, input).await.map_err(refusal)
}

/// Without a token, the URLs of the parts are the permission to join them.
async fn join(
    state: &ApiState,
    actor: Result<Actor, Problem>,
    parts: Vec<PartUrl>,
    headers: &HeaderMap,
    has_bytes: bool,
) -> Result<Upload, Problem> {
    let uploads = state.platform.uploads();
    let who = match actor {
        Ok(actor) => Uploader::from(&actor),
        Err(refusal) => {
            let signed = parts.iter().map(|part| Some((part.id, part.signature.clone()?)));
            let signed: Option<Vec<_>> = signed.collect();
            uploads.holder_of_all(&signed.ok_or(refusal)?).await?
        }
    };
    let says_length = headers.contains_key(UPLOAD_LENGTH) || headers.contains_key(UPLOAD_DEFER_LENGTH);
    if has_bytes || says_length {
        return Err(malformed(&UPLOAD_CONCAT, "joins parts: there is no length and no body to say"));
    }
    let (said, metadata) = metadata(headers)?;
    let (target, parts) = (metadata.target()?, parts.into_iter().map(|part| part.id).collect());
    let concatenation = text(headers, UPLOAD_CONCAT)?.map(str::to_owned);
    Ok(uploads.join(who, JoinParts { target, parts, metadata: said, concatenation }).await?)
}

/// What is said about the file, word for word and understood.
fn metadata(headers: &HeaderMap) -> Result<(Option<String>, Metadata), Problem> {
    let said = text(headers, UPLOAD_METADATA)?;
    Ok((said.map(str::to_owned), Metadata::parse(said.unwrap_or_default())?))
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
