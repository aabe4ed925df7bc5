//! SQL of uploads whose parts clients put into the bucket themselves.

use rusqlite::{Connection, OptionalExtension, named_params};

use crate::clock::Timestamp;
use crate::id::{UploadId, UserId};
use crate::storage::{Upload, UploadError, UploadKind, UploadStatus};
use crate::store::sqlite::{named, refuse};

use super::{Result, demand, demand_open};

/// Names the bucket's id for the parts, unless another call was faster.
pub(super) fn begin(
    db: &Connection,
    id: UploadId,
    user: UserId,
    bucket_upload: &str,
    now: Timestamp,
) -> Result<Upload> {
    let upload = demand(db, id, Some(user))?;
    if upload.kind != UploadKind::Multipart {
        return Err(refuse(UploadError::WrongKind { kind: upload.kind, command: "take parts" }));
    }
    demand_open(&upload, now, "take parts")?;
    db.prepare_cached(
        "UPDATE uploads SET bucket_upload = :bucket_upload, updated_at_ms = :now
         WHERE id = :id AND status = 'open' AND bucket_upload IS NULL",
    )?
    .execute(named_params! {":id": id, ":bucket_upload": bucket_upload, ":now": now})?;
    demand(db, id, None)
}

/// Those of the ids that uploads name.
pub(super) fn named_by(db: &Connection, ids: Vec<String>) -> rusqlite::Result<Vec<(String, UploadStatus)>> {
    // Index uploads_bucket.
    let mut find = db.prepare_cached("SELECT status FROM uploads WHERE bucket_upload = ?")?;
    let mut found = Vec::new();
    for id in ids {
        if let Some(status) = find.query_row([&id], |row| named(row, "status", UploadStatus::parse)).optional()? {
            found.push((id, status));
        }
    }
    Ok(found)
}
