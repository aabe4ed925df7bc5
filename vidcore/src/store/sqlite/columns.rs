//! Columns as the types they stand for.

use rusqlite::Row;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};

use crate::clock::Timestamp;
use crate::id::{JobGroupId, JobId, RenditionId, SessionId, SourceId, UploadId, UserId, VideoId};

impl ToSql for Timestamp {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::from(self.as_millis()))
    }
}

impl FromSql for Timestamp {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_i64().map(Self::from_millis)
    }
}

macro_rules! id_column {
    ($($id:ident),+) => { $(
        impl ToSql for $id {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(ToSqlOutput::from(&self.as_bytes()[..]))
            }
        }

        impl FromSql for $id {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                <[u8; 16]>::column_result(value).map(Self::from_bytes)
            }
        }
    )+ };
}

id_column!(UserId, SessionId, VideoId, SourceId, RenditionId, UploadId, JobId, JobGroupId);

/// A column that holds one of a fixed set of names; any other text is a defect of the row.
pub(crate) fn named<T>(row: &Row<'_>, column: &str, parse: impl FnOnce(&str) -> Option<T>) -> rusqlite::Result<T> {
    let index = row.as_ref().column_index(column)?;
    let value = row.get_ref(index)?;
    value
        .as_str()
        .and_then(|text| parse(text).ok_or(FromSqlError::InvalidType))
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(index, value.data_type(), Box::new(error)))
}

/// A column that holds JSON text.
pub(crate) fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    let index = row.as_ref().column_index(column)?;
    let value = row.get_ref(index)?;
    let text = value
        .as_str()
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(index, value.data_type(), Box::new(error)))?;
    serde_json::from_str(text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(index, value.data_type(), Box::new(error)))
}
