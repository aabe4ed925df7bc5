//! SQL of uploads whose parts clients put into the bucket themselves.

use rusqlite::{Connection, named_params};

use crate::clock::Timestamp;
use crate::id::{UploadId, UserId};
use crate::storage::{Upload, UploadError, UploadKind};
use crate::store::sqlite::refuse;

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

/// Those of the ids that no upload waits for.
pub(super) fn ended(db: &Connection, bucket_uploads: Vec<String>) -> rusqlite::Result<Vec<String>> {
    // Index uploads_bucket.
    let mut live = db.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM uploads WHERE bucket_upload = ? AND status IN ('open', 'verifying'))",
    )?;
    let mut ended = Vec::new();
    for id in bucket_uploads {
        if !live.query_row([&id], |row| row.get::<_, bool>(0))? {
            ended.push(id);
        }
    }
    Ok(ended)
}
