//! Every code a problem can carry: one table for the server, its documents and its tests.

use http::StatusCode;

/// What went wrong, as a stable name. The name and the status never change once published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code {
    /// The stable name, such as `not_found`.
    pub name: &'static str,
    /// The HTTP status it is answered with.
    pub status: u16,
    /// A short summary for a person, the same for every occurrence.
    pub title: &'static str,
    /// What the caller can do, for the documents.
    pub advice: &'static str,
}

impl Code {
    /// The status as `http` has it.
    pub fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The code with this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().copied().find(|code| code.name == name)
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $ident:ident = $status:literal $name:literal, $title:literal, $advice:literal;)+) => {
        $(
            $(#[$doc])*
            pub const $ident: Code = Code { name: $name, status: $status, title: $title, advice: $advice };
        )+

        /// Every code, by status.
        pub const ALL: &[&Code] = &[$(&$ident),+];
    };
}

codes! {
    /// The request line, a header or the query is not acceptable.
    BAD_REQUEST = 400 "bad_request", "The request is malformed",
        "Correct the header or framing that `detail` names.";
    /// The body is not JSON, or is nested too deeply.
    MALFORMED_JSON = 400 "malformed_json", "The body is not well-formed JSON",
        "Send JSON that a strict parser accepts, nested less than 128 levels.";
    /// A query parameter is unknown, missing or of the wrong form.
    INVALID_QUERY = 400 "invalid_query", "The query string is not acceptable",
        "Correct the parameters that `errors` names.";
    /// The cursor is not one of this list's.
    BAD_CURSOR = 400 "bad_cursor", "The cursor does not belong to this list",
        "Start again without a cursor; never build or change one.";
    /// The sender of a body broke off.
    BODY_INCOMPLETE = 400 "body_incomplete", "The body ended before it was whole",
        "Send the request again.";
    /// No valid access token.
    UNAUTHENTICATED = 401 "unauthenticated", "A valid access token is needed",
        "Log in or refresh, then send `Authorization: Bearer`.";
    /// E-mail address and password do not belong together.
    INVALID_CREDENTIALS = 401 "invalid_credentials", "E-mail address or password is wrong",
        "Ask the person again.";
    /// The refresh token is of no use any more.
    INVALID_REFRESH_TOKEN = 401 "invalid_refresh_token", "The refresh token is not valid",
        "Log in again; a token that was used twice ends its whole session.";
    /// The caller is known and may not do this.
    FORBIDDEN = 403 "forbidden", "This needs another role",
        "Ask an administrator.";
    /// The signature of a URL is missing, wrong or expired.
    INVALID_SIGNATURE = 403 "invalid_signature", "The signed URL is not valid",
        "Ask for a new URL.";
    /// The owner's storage quota is used up.
    QUOTA_EXCEEDED = 403 "quota_exceeded", "The storage quota does not hold this file",
        "Delete videos or send a smaller file.";
    /// The upload takes no bytes by appending.
    UPLOAD_NOT_APPENDABLE = 403 "upload_not_appendable", "Nothing can be appended to this upload",
        "An upload that was joined of parts is complete; open another.";
    /// Nothing here, or nothing the caller may know of.
    NOT_FOUND = 404 "not_found", "Nothing was found here",
        "Check the path and the id; what is private looks absent to others.";
    /// The path exists, the method does not.
    METHOD_NOT_ALLOWED = 405 "method_not_allowed", "The method is not allowed here",
        "Use one of the methods in `Allow`.";
    /// The body came too slowly.
    REQUEST_TIMEOUT = 408 "request_timeout", "The body came too slowly",
        "Send the request again over a better connection.";
    /// The state of the thing does not allow the command.
    WRONG_STATE = 409 "wrong_state", "The current state does not allow this",
        "Read the resource again and decide anew.";
    /// Nothing would play any more.
    LAST_RENDITION = 409 "last_rendition", "It is the last rendition that plays",
        "Delete the video instead.";
    /// What something would be made of is gone.
    ORIGINAL_DROPPED = 409 "original_dropped", "The original is no longer kept",
        "Upload the file again.";
    /// The e-mail address has an account.
    EMAIL_TAKEN = 409 "email_taken", "The e-mail address is taken",
        "Log in, or use another address.";
    /// The handle has an account.
    HANDLE_TAKEN = 409 "handle_taken", "The handle is taken",
        "Choose another handle.";
    /// All bytes of the upload came before.
    ALREADY_RECEIVED = 409 "already_received", "The upload has its bytes already",
        "Complete the upload, or open another.";
    /// The upload has no bytes yet.
    NO_BYTES = 409 "no_bytes", "The upload has no bytes yet",
        "Send the file first.";
    /// Parts of the upload are not in the bucket.
    PARTS_MISSING = 409 "parts_missing", "Parts of the upload are missing",
        "Put the missing parts into the bucket; `GET /uploads/{id}/parts` lists those that are there.";
    /// Too many uploads of one video are open.
    TOO_MANY_OPEN_UPLOADS = 409 "too_many_open_uploads", "Too many uploads of this video are open",
        "Complete or delete one of them.";
    /// The bytes do not begin where the upload goes on.
    OFFSET_MISMATCH = 409 "offset_mismatch", "The upload goes on at another offset",
        "Ask for `Upload-Offset` with `HEAD`, and go on there.";
    /// The length was declared before, and differently.
    LENGTH_DECLARED = 409 "length_declared", "The length was declared differently",
        "Send the length that was declared, or open another upload.";
    /// Parts cannot be joined.
    PARTS_NOT_JOINABLE = 409 "parts_not_joinable", "The parts cannot be joined",
        "Name parts of your own, each once, whole and not expired.";
    /// The same `Idempotency-Key` is being worked on.
    REQUEST_IN_PROGRESS = 409 "request_in_progress", "The same request is being worked on",
        "Wait for its answer, or send it again after `Retry-After`.";
    /// The upload's time is over.
    UPLOAD_EXPIRED = 410 "upload_expired", "The upload has expired",
        "Open another upload.";
    /// `If-Match` names another version.
    VERSION_MISMATCH = 412 "version_mismatch", "The resource has changed",
        "Read it again, merge, and send the new `ETag` in `If-Match`.";
    /// The client speaks another version of tus.
    TUS_VERSION_UNSUPPORTED = 412 "tus_version_unsupported", "The version of tus is not supported",
        "Send `Tus-Resumable` with the version that `Tus-Version` names.";
    /// The body is larger than allowed.
    BODY_TOO_LARGE = 413 "body_too_large", "The body is too large",
        "Send less than the limit that `detail` names.";
    /// The file is larger than allowed or declared.
    UPLOAD_TOO_LARGE = 413 "upload_too_large", "The file is too large",
        "Send at most what was declared, and no file above `Tus-Max-Size`.";
    /// The body is not of a type the route takes.
    UNSUPPORTED_MEDIA_TYPE = 415 "unsupported_media_type", "The content type is not supported",
        "Send one of the types that `detail` names.";
    /// The range lies outside the file.
    RANGE_NOT_SATISFIABLE = 416 "range_not_satisfiable", "The range lies outside the file",
        "Ask for a range within the size in `Content-Range`.";
    /// The body is JSON but not what the route takes.
    INVALID_BODY = 422 "invalid_body", "The body does not have the right shape or values",
        "Correct the members that `errors` names.";
    /// The same `Idempotency-Key` came with another request.
    IDEMPOTENCY_KEY_REUSED = 422 "idempotency_key_reused", "The idempotency key belongs to another request",
        "Use a fresh key for each new request.";
    /// More or fewer bytes than declared.
    SIZE_MISMATCH = 422 "size_mismatch", "The number of bytes differs from what was declared",
        "Send the file again, whole.";
    /// Other bytes than declared.
    CHECKSUM_MISMATCH = 422 "checksum_mismatch", "The checksum differs from what was declared",
        "Send the file again.";
    /// Another request appends to the upload.
    UPLOAD_LOCKED = 423 "upload_locked", "Another request appends to this upload",
        "Ask for `Upload-Offset` with `HEAD`, and go on there if you are to.";
    /// `If-Match` is demanded here.
    PRECONDITION_REQUIRED = 428 "precondition_required", "`If-Match` is required",
        "Send the `ETag` you read in `If-Match`.";
    /// A rate limit is used up.
    RATE_LIMITED = 429 "rate_limited", "Too many requests",
        "Wait for `Retry-After` seconds.";
    /// The header section is too large.
    HEADERS_TOO_LARGE = 431 "headers_too_large", "The header section is too large",
        "Send fewer or shorter headers.";
    /// The bytes of one request have another checksum (a status of the tus protocol).
    UPLOAD_CHECKSUM_MISMATCH = 460 "upload_checksum_mismatch", "The bytes have another checksum",
        "Send them again: the offset is what it was.";
    /// A defect of the server.
    INTERNAL = 500 "internal", "The server failed",
        "Report the `request_id`; sending the request again may fail again.";
    /// The body comes in a transfer coding other than `chunked`.
    TRANSFER_CODING_UNSUPPORTED = 501 "transfer_coding_unsupported", "The transfer coding is not supported",
        "Send the bytes with `Content-Length`, or `chunked` and nothing else.";
    /// A part the request needs does not answer.
    UNAVAILABLE = 503 "unavailable", "The service is temporarily unavailable",
        "Send the request again after `Retry-After` seconds.";
    /// More requests than the server can carry.
    OVERLOADED = 503 "overloaded", "The server has too much to do",
        "Send the request again after `Retry-After` seconds; nothing was done.";
    /// The work took too long.
    TIMEOUT = 503 "timeout", "The request took too long",
        "Send it again after `Retry-After` seconds, with the same `Idempotency-Key`.";
    /// The disk is full.
    STORAGE_FULL = 507 "storage_full", "No space is left",
        "Try later; reading still works.";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_has_its_own_name_and_an_error_status() {
        let names: BTreeSet<_> = ALL.iter().map(|code| code.name).collect();
        assert_eq!(ALL.len(), names.len());
        for code in ALL {
            assert!(code.status_code().is_client_error() || code.status_code().is_server_error(), "{}", code.name);
            assert_eq!(code.status, code.status_code().as_u16());
        }
    }

    #[test]
    fn codes_stand_in_the_order_of_their_status() {
        assert!(ALL.is_sorted_by_key(|code| code.status));
    }
}
