//! What the back ends' errors mean to those who asked.

use std::error::Error;
use std::io::ErrorKind;

use super::ObjectError;

/// Words of S3 and of what speaks it that mean the keys, not the moment. Only some requests have errors of their own
/// for a refusal; the others quote the answer.
const REFUSALS: [&str; 5] =
    ["status code: 403", "status code: 401", "ExpiredToken", "InvalidToken", "InvalidAccessKeyId"];

/// What is said where there is no such bucket.
const NO_BUCKET: &str = "NoSuchBucket";

/// Words for a disk that is full behind the service.
const FULL: [&str; 2] = ["507 Insufficient Storage", "XMinioStorageFull"];

/// The back end refuses who asks. Trying again does not help; other keys, or the right time, do.
#[derive(Debug, thiserror::Error)]
#[error("the object store refuses these credentials")]
struct Refused(#[source] object_store::Error);

/// Without the bucket nothing can be said about an object.
#[derive(Debug, thiserror::Error)]
#[error("there is no such bucket")]
struct NoBucket(#[source] object_store::Error);

/// Whether an error lies with the settings, so that it will be the same tomorrow.
#[cfg(feature = "s3")]
pub(crate) fn is_lasting(error: &ObjectError) -> bool {
    let ObjectError::Unavailable { source, .. } = error else { return false };
    source.is::<Refused>() || source.is::<NoBucket>()
}

pub(crate) fn io_failure(operation: &'static str, error: std::io::Error) -> ObjectError {
    match error.kind() {
        ErrorKind::NotFound => ObjectError::NotFound,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => ObjectError::Full(error),
        _ => ObjectError::Unavailable { operation, source: error.into() },
    }
}

pub(crate) fn failure(operation: &'static str, error: object_store::Error) -> ObjectError {
    let story = story(&error);
    let says = |words: &[&str]| words.iter().any(|word| story.contains(word));
    match &error {
        _ if says(&[NO_BUCKET]) => return ObjectError::Unavailable { operation, source: NoBucket(error).into() },
        object_store::Error::NotFound { .. } => return ObjectError::NotFound,
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
            return ObjectError::Unavailable { operation, source: Refused(error).into() };
        }
        _ if says(&REFUSALS) => return ObjectError::Unavailable { operation, source: Refused(error).into() },
        _ if says(&FULL) => {
            return ObjectError::Full(std::io::Error::new(ErrorKind::StorageFull, error.to_string()));
        }
        _ => {}
    }
    // A full disk is an I/O error somewhere down the chain.
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(next) = cause {
        if let Some(io) = next.downcast_ref::<std::io::Error>()
            && matches!(io.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
        {
            return ObjectError::Full(std::io::Error::new(io.kind(), error.to_string()));
        }
        cause = next.source();
    }
    ObjectError::Unavailable { operation, source: error.into() }
}

/// All that the error and its causes say.
fn story(error: &object_store::Error) -> String {
    let (mut story, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        story = format!("{story}: {error}");
        cause = error.source();
    }
    story
}
