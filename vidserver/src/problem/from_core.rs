//! What each outcome of `vidcore` is to a client.
//!
//! The library's enums may grow; a variant this file does not know yet is [`code::INTERNAL`], so that
//! it is logged with its text and noticed, and the client learns nothing by accident.

use vidcore::auth::{AuthError, NotAdmin};
use vidcore::catalog::CatalogError;
use vidcore::invalid::FieldProblem;
use vidcore::jobs::JobError;
use vidcore::media::playback::PlaybackError;
use vidcore::rate_limit::LimitError;
use vidcore::storage::UploadError;
use vidcore::storage::objects::ObjectError;
use vidcore::store::StoreError;

use super::{FieldError, Problem, code};
use crate::middleware::body_guard::BodyStalled;
use crate::middleware::rate_limit::LimitState;

/// How long a caller waits before it asks a store again that did not answer, in seconds.
const STORE_RETRY_S: u32 = 1;

/// How long a caller waits before it writes again to a full disk, in seconds.
const FULL_RETRY_S: u32 = 60;

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable { .. } => Self::unavailable(STORE_RETRY_S).caused_by(error),
            StoreError::Full { .. } => Self::new(code::STORAGE_FULL).retry_after(FULL_RETRY_S).caused_by(error),
            StoreError::KeyReused => Self::new(code::IDEMPOTENCY_KEY_REUSED),
            StoreError::Defect { .. } => Self::internal(error),
            other => Self::internal(other),
        }
    }
}

impl From<ObjectError> for Problem {
    fn from(error: ObjectError) -> Self {
        match error {
            ObjectError::NotFound => Self::not_found(),
            ObjectError::Full(_) => Self::new(code::STORAGE_FULL).retry_after(FULL_RETRY_S).caused_by(error),
            ObjectError::Unavailable { .. } => Self::unavailable(STORE_RETRY_S).caused_by(error),
            other => Self::internal(other),
        }
    }
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Invalid(problems) => invalid(problems),
            AuthError::EmailTaken => Self::new(code::EMAIL_TAKEN),
            AuthError::HandleTaken => Self::new(code::HANDLE_TAKEN),
            AuthError::BadCredentials => Self::new(code::INVALID_CREDENTIALS),
            AuthError::BadToken(_) => Self::invalid_token(),
            AuthError::RefreshRefused => Self::new(code::INVALID_REFRESH_TOKEN),
            AuthError::VersionMismatch { current } => version_mismatch(current),
            AuthError::NotFound => Self::not_found(),
            AuthError::Busy => Self::new(code::OVERLOADED).retry_after(STORE_RETRY_S).caused_by(error),
            AuthError::Limited(refusal) => LimitState::from(&*refusal).refuse(),
            AuthError::Limits(error) => error.into(),
            AuthError::Store(store) => store.into(),
            AuthError::Key { .. } | AuthError::Hash => Self::internal(error),
            other => Self::internal(other),
        }
    }
}

impl From<LimitError> for Problem {
    fn from(error: LimitError) -> Self {
        match error {
            LimitError::Unavailable(_) => Self::unavailable(STORE_RETRY_S).caused_by(error),
            error => Self::internal(error),
        }
    }
}

impl From<PlaybackError> for Problem {
    fn from(error: PlaybackError) -> Self {
        match error {
            PlaybackError::NotFound => Self::not_found(),
            PlaybackError::Object(object) => object.into(),
            PlaybackError::Store(store) => store.into(),
            other => Self::internal(other),
        }
    }
}

impl From<CatalogError> for Problem {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::Invalid(problems) => invalid(problems),
            CatalogError::NotFound => Self::not_found(),
            CatalogError::VersionMismatch { current } => version_mismatch(current),
            CatalogError::WrongState { .. } => Self::new(code::WRONG_STATE).detail(error.to_string()),
            CatalogError::LastRendition => Self::new(code::LAST_RENDITION),
            CatalogError::OriginalDropped => Self::new(code::ORIGINAL_DROPPED),
            CatalogError::BadCursor => Self::new(code::BAD_CURSOR),
            CatalogError::Store(store) => store.into(),
            // Only a worker holds leases; over HTTP this is a defect.
            CatalogError::Fenced => Self::internal(error),
            other => Self::internal(other),
        }
    }
}

impl From<NotAdmin> for Problem {
    fn from(_: NotAdmin) -> Self {
        Self::new(code::FORBIDDEN)
    }
}

impl From<JobError> for Problem {
    fn from(error: JobError) -> Self {
        match error {
            JobError::NotFound => Self::not_found(),
            JobError::Forbidden => Self::new(code::FORBIDDEN),
            JobError::Invalid(problems) => invalid(problems),
            JobError::WrongState { .. } => Self::new(code::WRONG_STATE).detail(error.to_string()),
            JobError::BadCursor => Self::new(code::BAD_CURSOR),
            JobError::Store(store) => store.into(),
            JobError::LeaseLost { .. } => Self::internal(error),
            other => Self::internal(other),
        }
    }
}

impl From<UploadError> for Problem {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::Invalid(problems) => invalid(problems),
            UploadError::BadSignature => Self::new(code::INVALID_SIGNATURE),
            UploadError::NotFound => Self::not_found(),
            UploadError::WrongState { .. } => Self::new(code::WRONG_STATE).detail(error.to_string()),
            UploadError::Expired => Self::new(code::UPLOAD_EXPIRED),
            UploadError::AlreadyReceived => Self::new(code::ALREADY_RECEIVED),
            UploadError::NoBytes => Self::new(code::NO_BYTES),
            UploadError::PartsMissing { .. } => Self::new(code::PARTS_MISSING).detail(error.to_string()),
            UploadError::QuotaExceeded { .. } => Self::new(code::QUOTA_EXCEEDED).detail(error.to_string()),
            UploadError::TooManyOpen => Self::new(code::TOO_MANY_OPEN_UPLOADS),
            UploadError::SizeMismatch { .. } => Self::new(code::SIZE_MISMATCH).detail(error.to_string()),
            UploadError::ChecksumMismatch => Self::new(code::CHECKSUM_MISMATCH),
            UploadError::BrokenOff(ref source) if BodyStalled::is_behind(source.as_ref()) => {
                Self::new(code::REQUEST_TIMEOUT).caused_by(error)
            }
            UploadError::BrokenOff(_) => Self::new(code::BODY_INCOMPLETE).caused_by(error),
            UploadError::OffsetMismatch { .. } => Self::new(code::OFFSET_MISMATCH).detail(error.to_string()),
            UploadError::LengthDeclared { .. } => Self::new(code::LENGTH_DECLARED),
            UploadError::TooLarge { .. } => Self::new(code::UPLOAD_TOO_LARGE).detail(error.to_string()),
            UploadError::Superseded => Self::new(code::UPLOAD_LOCKED),
            UploadError::WrongKind { .. } => Self::new(code::WRONG_STATE).detail(error.to_string()),
            UploadError::BadPart { .. } => Self::new(code::PARTS_NOT_JOINABLE).detail(error.to_string()),
            UploadError::Object(object) => object.into(),
            UploadError::Store(store) => store.into(),
            UploadError::Fenced => Self::internal(error),
            other => Self::internal(other),
        }
    }
}

fn invalid(problems: Vec<FieldProblem>) -> Problem {
    let errors = problems.into_iter().map(|problem| FieldError { pointer: problem.field, detail: problem.message });
    Problem::new(code::INVALID_BODY).errors(errors.collect())
}

fn version_mismatch(current: i64) -> Problem {
    Problem::new(code::VERSION_MISMATCH).detail(format!("the current version is {current}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code_of(error: impl Into<Problem>) -> &'static str {
        error.into().code().name
    }

    fn unavailable() -> StoreError {
        StoreError::Unavailable { operation: "read", source: "locked".into() }
    }

    fn full_objects() -> ObjectError {
        ObjectError::Full(std::io::ErrorKind::StorageFull.into())
    }

    #[test]
    fn trouble_of_the_store_is_told_apart_from_outcomes() {
        assert_eq!("unavailable", code_of(unavailable()));
        assert_eq!("unavailable", code_of(CatalogError::Store(unavailable())));
        assert_eq!("storage_full", code_of(UploadError::Object(full_objects())));
        let full = StoreError::Full { operation: "write", source: std::io::ErrorKind::StorageFull.into() };
        assert_eq!("storage_full", code_of(AuthError::Store(full)));
        assert_eq!("idempotency_key_reused", code_of(JobError::Store(StoreError::KeyReused)));
        assert_eq!("internal", code_of(StoreError::Defect { operation: "read", source: "row".into() }));
    }

    #[test]
    fn a_defect_of_a_worker_never_looks_like_the_clients_fault() {
        assert_eq!("internal", code_of(CatalogError::Fenced));
        assert_eq!("internal", code_of(UploadError::Fenced));
    }

    #[test]
    fn a_sender_that_was_too_slow_is_told_so() {
        let stalled: vidcore::store::BoxError = Box::new(axum::Error::new(BodyStalled::Idle));
        assert_eq!("request_timeout", code_of(UploadError::BrokenOff(stalled)));
        assert_eq!("body_incomplete", code_of(UploadError::BrokenOff("reset".into())));
    }

    #[test]
    fn retryable_problems_say_when() {
        use axum::response::IntoResponse;
        for problem in [Problem::from(unavailable()), Problem::from(full_objects())] {
            assert!(problem.into_response().headers().contains_key(http::header::RETRY_AFTER));
        }
    }
}
