//! The protocol's own headers, read and written.

use std::time::{Duration, SystemTime};

use axum::extract::Request;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Body;
use vidcore::storage::{Checksum, ChecksumAlgorithm, Upload, UploadKind, UploadStatus};

use crate::problem::{Problem, code};

pub(super) const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");
pub(super) const UPLOAD_LENGTH: HeaderName = HeaderName::from_static("upload-length");
pub(super) const UPLOAD_DEFER_LENGTH: HeaderName = HeaderName::from_static("upload-defer-length");
pub(super) const UPLOAD_METADATA: HeaderName = HeaderName::from_static("upload-metadata");
pub(super) const UPLOAD_CONCAT: HeaderName = HeaderName::from_static("upload-concat");
const UPLOAD_CHECKSUM: HeaderName = HeaderName::from_static("upload-checksum");
const UPLOAD_EXPIRES: HeaderName = HeaderName::from_static("upload-expires");

/// The type of bodies that are appended.
const OFFSET_OCTET_STREAM: &str = "application/offset+octet-stream";

/// A header's text; `None` if it is absent.
pub(super) fn text(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(&name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(malformed(&name, "stands there more than once"));
    }
    value.to_str().map(Some).map_err(|_| malformed(&name, "is not ASCII text"))
}

/// A number of bytes: digits alone; `None` if the header is absent.
pub(super) fn number(headers: &HeaderMap, name: HeaderName) -> Result<Option<u64>, Problem> {
    let Some(text) = text(headers, name.clone())? else { return Ok(None) };
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| text.parse().ok()).flatten();
    number.map(Some).ok_or_else(|| malformed(&name, "is not a number of bytes"))
}

/// `Upload-Checksum`: an algorithm and what it gives, in base64.
pub(super) fn checksum(headers: &HeaderMap) -> Result<Option<Checksum>, Problem> {
    let Some(text) = text(headers, UPLOAD_CHECKSUM)? else { return Ok(None) };
    let (name, value) = text.split_once(' ').ok_or_else(|| malformed(&UPLOAD_CHECKSUM, "is not `algorithm base64`"))?;
    let algorithm = ChecksumAlgorithm::parse(name)
        .ok_or_else(|| malformed(&UPLOAD_CHECKSUM, "names an algorithm that is not supported"))?;
    let checksum = STANDARD.decode(value.trim()).ok().and_then(|bytes| Checksum::new(algorithm, bytes));
    checksum.map(Some).ok_or_else(|| malformed(&UPLOAD_CHECKSUM, "does not hold a checksum of its algorithm"))
}

/// Whether a body comes that is to be appended. Types have no case, and may have parameters (RFC 9110 §8.3.1).
///
/// # Errors
/// 415 for a body of another type, 400 for two types.
pub(super) fn has_bytes(request: &Request) -> Result<bool, Problem> {
    let kind = text(request.headers(), CONTENT_TYPE)?.unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    let is_ours = essence.eq_ignore_ascii_case(OFFSET_OCTET_STREAM);
    match (request.body().is_end_stream(), is_ours) {
        (_, true) => Ok(true),
        (true, false) => Ok(false),
        (false, false) => {
            let detail = format!("bytes are sent as `{OFFSET_OCTET_STREAM}`");
            Err(Problem::new(code::UNSUPPORTED_MEDIA_TYPE).detail(detail))
        }
    }
}

/// What is wrong with a header, without what it said.
pub(super) fn malformed(name: &HeaderName, what: &str) -> Problem {
    Problem::new(code::BAD_REQUEST).detail(format!("`{name}` {what}"))
}

/// The headers that describe an upload: all of them, as `HEAD` tells them.
pub(super) fn describe(headers: &mut HeaderMap, upload: &Upload) {
    progress(headers, upload);
    match upload.length_deferred {
        true => headers.insert(UPLOAD_DEFER_LENGTH, HeaderValue::from_static("1")),
        false => headers.insert(UPLOAD_LENGTH, HeaderValue::from(upload.size_bytes)),
    };
    for (name, said) in [(UPLOAD_METADATA, &upload.metadata), (UPLOAD_CONCAT, &upload.concatenation)] {
        if let Some(said) = said.as_deref().and_then(|said| HeaderValue::from_str(said).ok()) {
            headers.insert(name, said);
        }
    }
}

/// How far it is, and until when it takes more.
pub(super) fn progress(headers: &mut HeaderMap, upload: &Upload) {
    put_offset(headers, upload);
    put_expiry(headers, upload);
}

/// A joined upload has an offset only once its bytes stand in their order, of which its hash is the proof; what is found
/// in them then is another matter.
fn put_offset(headers: &mut HeaderMap, upload: &Upload) {
    let is_joined = upload.received_sha256.is_some() || upload.status == UploadStatus::Complete;
    let is_joining = upload.kind == UploadKind::Joined && !is_joined;
    if !is_joining {
        let offset = if upload.is_received() { upload.size_bytes } else { upload.offset_bytes };
        headers.insert(UPLOAD_OFFSET, HeaderValue::from(offset));
    }
}

/// As a date of HTTP (RFC 9110 §5.6.7), rounded down to a second.
fn put_expiry(headers: &mut HeaderMap, upload: &Upload) {
    let seconds = u64::try_from(upload.expires_at.as_secs()).unwrap_or(0);
    if upload.status == UploadStatus::Open {
        let date = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        if let Ok(date) = HeaderValue::from_str(&date) {
            headers.insert(UPLOAD_EXPIRES, date);
        }
    }
}

#[cfg(test)]
mod tests {
    use vidcore::clock::Timestamp;
    use vidcore::id::{UploadId, UserId};

    use super::*;

    fn joined(status: UploadStatus, received_sha256: Option<[u8; 32]>) -> Upload {
        Upload {
            id: UploadId::from_bytes([1; 16]),
            video: None,
            user: UserId::from_bytes([2; 16]),
            kind: UploadKind::Joined,
            status,
            size_bytes: 9,
            length_deferred: false,
            offset_bytes: 0,
            is_quiet: true,
            multipart: None,
            declared_sha256: None,
            staged_key: None,
            received_sha256,
            metadata: None,
            concatenation: None,
            reason: None,
            created_at: Timestamp::from_millis(0),
            expires_at: Timestamp::from_millis(1),
        }
    }

    /// "unless the concatenation has been successfully finished"
    #[test]
    fn a_joined_upload_has_an_offset_once_its_parts_were_joined() {
        use UploadStatus::{Complete, Rejected, Verifying};
        let cases = [(Verifying, None), (Rejected, None), (Verifying, Some([7; 32])), (Rejected, Some([7; 32]))];
        let offsets = cases.map(|(status, sha256)| {
            let mut headers = HeaderMap::new();
            describe(&mut headers, &joined(status, sha256));
            headers.contains_key(UPLOAD_OFFSET)
        });
        assert_eq!([false, false, true, true], offsets);
        let mut headers = HeaderMap::new();
        describe(&mut headers, &joined(Complete, None));
        assert_eq!(headers[UPLOAD_LENGTH], headers[UPLOAD_OFFSET]);
    }
}
