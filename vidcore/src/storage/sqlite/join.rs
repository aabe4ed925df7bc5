//! SQL of parts that become one upload.

use rusqlite::{Connection, named_params};

use crate::clock::Timestamp;
use crate::id::{UploadId, UserId};
use crate::storage::{JoinUploads, NewUpload, Upload, UploadError, UploadKind, UploadStatus};
use crate::store::sqlite::refuse;

use super::{Result, demand, demand_owner, demand_room, find, insert, insert_draft, set_status};

/// Joins whole parts into one upload that is being verified.
pub(super) fn join(db: &Connection, command: JoinUploads, now: Timestamp) -> Result<Upload> {
    insert_draft(db, &command.new)?;
    demand_owner(db, &command.new)?;
    let size_bytes = sum(db, &command, now)?;
    if size_bytes > command.max_size_bytes {
        return Err(refuse(UploadError::TooLarge { max_size_bytes: command.max_size_bytes }));
    }
    // What the parts reserve is what the whole will: it comes on top until they are used.
    let new = NewUpload {
        size_bytes: Some(size_bytes),
        quota_bytes: command.new.quota_bytes.saturating_add(size_bytes),
        ..command.new
    };
    demand_room(db, &new)?;
    insert(db, &new)?;
    for part in &command.parts {
        take_over(db, new.id, *part, now)?;
    }
    set_status(db, new.id, UploadStatus::Open, UploadStatus::Verifying, None, now)?;
    demand(db, new.id, None)
}

/// Puts the hash of the joined bytes beside them.
pub(super) fn record(db: &Connection, upload: &Upload, sha256: [u8; 32], now: Timestamp) -> Result<()> {
    let command = "be recorded as joined";
    if !matches!(upload.kind, UploadKind::Joined | UploadKind::Multipart) {
        return Err(refuse(UploadError::WrongKind { kind: upload.kind, command }));
    }
    if upload.status != UploadStatus::Verifying {
        return Err(refuse(UploadError::WrongState { status: upload.status, command }));
    }
    db.prepare_cached(
        "UPDATE uploads SET received_sha256 = :sha256, updated_at_ms = :now WHERE id = :id AND status = 'verifying'",
    )?
    .execute(named_params! {":id": upload.id, ":sha256": sha256, ":now": now})?;
    Ok(())
}

fn sum(db: &Connection, command: &JoinUploads, now: Timestamp) -> Result<u64> {
    let mut size_bytes = 0_u64;
    for (position, id) in command.parts.iter().enumerate() {
        let is_repeated = command.parts[..position].contains(id);
        let part = find(db, *id)?.filter(|part| !is_repeated && is_joinable(part, command.new.user, now));
        let part = part.ok_or_else(|| refuse(UploadError::BadPart { position }))?;
        size_bytes = size_bytes.saturating_add(part.size_bytes);
    }
    if command.parts.is_empty() { Err(refuse(UploadError::BadPart { position: 0 })) } else { Ok(size_bytes) }
}

fn is_joinable(part: &Upload, user: UserId, now: Timestamp) -> bool {
    let is_live = part.status == UploadStatus::Open && part.expires_at > now;
    part.user == user && part.kind == UploadKind::Part && is_live && part.is_received()
}

/// The segments of the part are the next ones of the whole; whoever may still write to the part's may to them.
fn take_over(db: &Connection, whole: UploadId, part: UploadId, now: Timestamp) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO upload_segments (upload_pk, seq, key, size_bytes)
         SELECT w.pk, s.seq + (SELECT count(*) FROM upload_segments h WHERE h.upload_pk = w.pk), s.key, s.size_bytes
         FROM uploads w, uploads p JOIN upload_segments s ON s.upload_pk = p.pk
         WHERE w.id = :whole AND p.id = :part ORDER BY s.seq",
    )?
    .execute(named_params! {":whole": whole, ":part": part})?;
    db.prepare_cached(
        "UPDATE uploads SET writer = coalesce(writer, (SELECT writer FROM uploads WHERE id = :part))
         WHERE id = :whole",
    )?
    .execute(named_params! {":whole": whole, ":part": part})?;
    db.prepare_cached(
        "UPDATE uploads SET status = 'used', writer = NULL, updated_at_ms = :now,
            used_by_pk = (SELECT pk FROM uploads WHERE id = :whole)
         WHERE id = :part AND status = 'open'",
    )?
    .execute(named_params! {":whole": whole, ":part": part, ":now": now})
    .map(|_| ())
}
