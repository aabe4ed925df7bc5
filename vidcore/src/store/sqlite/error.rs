//! SQLite's errors as outcomes of a command.

use rusqlite::ErrorCode;

use crate::store::StoreError;

/// Why a closure on the database did not end well.
#[derive(Debug)]
pub(crate) enum Fail<E> {
    /// SQLite said so.
    Sql(rusqlite::Error),
    /// The command was refused; its savepoint is rolled back.
    Refused(E),
}

impl<E> From<rusqlite::Error> for Fail<E> {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

/// A refusal, ready for `return Err(…)`.
pub(crate) fn refuse<E>(error: E) -> Fail<E> {
    Fail::Refused(error)
}

/// What a caller can do about an error of SQLite.
pub(super) fn classify(operation: &'static str, error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::full(operation, error),
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::OutOfMemory
            | ErrorCode::ReadOnly
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::PermissionDenied,
        ) => StoreError::Unavailable { operation, source: error.into() },
        _ => StoreError::Defect { operation, source: error.into() },
    }
}
