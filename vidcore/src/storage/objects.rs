//! Objects: keys, streaming in and out, over any `object_store` back end.

use crate::store::BoxError;

/// Why an object could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectError {
    /// No object has this key.
    #[error("object not found")]
    NotFound,
    /// The disk is full; nothing was made visible.
    #[error("no space left for objects")]
    Full,
    /// The back end did not answer; trying again later is safe.
    #[error("object store unavailable: {operation}")]
    Unavailable {
        /// What was being done, for the log.
        operation: &'static str,
        /// The back end's own words.
        #[source]
        source: BoxError,
    },
}
