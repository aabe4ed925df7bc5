//! SQL of bytes that come in several requests.

use rusqlite::{Connection, OptionalExtension, named_params};

use crate::clock::Timestamp;
use crate::id::UploadId;
use crate::invalid::FieldProblem;
use crate::storage::{Appending, BeginAppend, RecordAppend, Segment, Upload, UploadError, UploadKind, UploadStatus};
use crate::store::sqlite::refuse;

use super::{Result, demand, demand_open, segments, set_status, signed, weigh};

/// Makes the caller the writer.
pub(super) fn begin(db: &Connection, command: &BeginAppend, now: Timestamp) -> Result<Appending> {
    let upload = demand(db, command.id, Some(command.user))?;
    demand_appendable(&upload, now)?;
    if upload.offset_bytes != command.offset_bytes {
        return Err(refuse(UploadError::OffsetMismatch { current: upload.offset_bytes }));
    }
    let is_quiet = upload.is_quiet;
    declare_length(db, &upload, command, now)?;
    let quota_left = demand_room_for(db, &demand(db, command.id, None)?, command, now)?;
    let hash_state = db
        .prepare_cached("SELECT hash_state FROM uploads WHERE id = :id")?
        .query_row(named_params! {":id": command.id}, |row| row.get(0))?;
    set_writer(db, command.id, command.writer, now)?;
    let upload = demand(db, command.id, None)?;
    Ok(Appending { segments: segments(db, command.id)?, upload, hash_state, is_quiet, quota_left })
}

fn demand_appendable(upload: &Upload, now: Timestamp) -> Result<()> {
    match upload.kind {
        UploadKind::Resumable | UploadKind::Part => demand_open(upload, now, "take bytes"),
        kind => Err(refuse(UploadError::WrongKind { kind, command: "be appended to" })),
    }
}

/// Declares the length where it was deferred; saying it once more changes nothing.
fn declare_length(db: &Connection, upload: &Upload, command: &BeginAppend, now: Timestamp) -> Result<()> {
    let Some(length) = command.length else { return Ok(()) };
    if !upload.length_deferred {
        let declared = upload.size_bytes;
        return if length == declared { Ok(()) } else { Err(refuse(UploadError::LengthDeclared { declared })) };
    }
    if length > command.max_size_bytes {
        return Err(refuse(UploadError::TooLarge { max_size_bytes: command.max_size_bytes }));
    }
    if length == 0 || length < upload.offset_bytes {
        let problem = FieldProblem::new("/length", "at least 1 byte, and no less than has come");
        return Err(refuse(UploadError::Invalid(vec![problem])));
    }
    weigh(db, upload.user, length - upload.size_bytes, command.quota_bytes, now)?;
    db.prepare_cached(
        "UPDATE uploads SET size_bytes = :size, length_deferred = 0, updated_at_ms = :now
         WHERE id = :id AND status = 'open' AND length_deferred = 1",
    )?
    .execute(named_params! {":id": upload.id, ":size": signed(length), ":now": now})?;
    Ok(())
}

/// More bytes than there is room for are refused before the first of them comes; how many the quota leaves.
fn demand_room_for(db: &Connection, upload: &Upload, command: &BeginAppend, now: Timestamp) -> Result<u64> {
    let announced = command.announced.unwrap_or(0);
    let received = upload.offset_bytes.saturating_add(announced);
    match upload.length_deferred {
        true if received > command.max_size_bytes => {
            Err(refuse(UploadError::TooLarge { max_size_bytes: command.max_size_bytes }))
        }
        false if received > upload.size_bytes => {
            Err(refuse(UploadError::SizeMismatch { declared: upload.size_bytes, received }))
        }
        true => Ok(weigh(db, upload.user, announced, command.quota_bytes, now)?.saturating_add(announced)),
        // Reserved when it was declared.
        false => Ok(0),
    }
}

/// Moves the offset, with the segments that hold the bytes.
pub(super) fn record(db: &Connection, command: &RecordAppend, now: Timestamp) -> Result<Upload> {
    let upload = demand(db, command.id, None)?;
    demand_appendable(&upload, now)?;
    if !holds(db, command)? {
        return Err(refuse(UploadError::Superseded));
    }
    if !upload.length_deferred && command.to > upload.size_bytes {
        return Err(refuse(UploadError::SizeMismatch { declared: upload.size_bytes, received: command.to }));
    }
    if upload.length_deferred {
        weigh(db, upload.user, command.to - command.from, command.quota_bytes, now)?;
    }
    for segment in &command.segments {
        keep(db, command.id, segment)?;
    }
    advance(db, command, now)?;
    finish(db, command, now)
}

/// Whether the caller is still the one who may move the offset, and it is where the caller left it.
fn holds(db: &Connection, command: &RecordAppend) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT 1 FROM uploads WHERE id = :id AND writer = :writer AND offset_bytes = :from")?
        .query_row(named_params! {":id": command.id, ":writer": command.writer, ":from": signed(command.from)}, |_| {
            Ok(())
        })
        .optional()
        .map(|found| found.is_some())
}

fn keep(db: &Connection, id: UploadId, segment: &Segment) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO upload_segments (upload_pk, seq, key, size_bytes)
         SELECT pk, :seq, :key, :size FROM uploads WHERE id = :id
         ON CONFLICT (upload_pk, seq) DO UPDATE SET key = excluded.key, size_bytes = excluded.size_bytes",
    )?
    .execute(named_params! {
        ":id": id, ":seq": segment.seq, ":key": segment.key, ":size": signed(segment.size_bytes),
    })
    .map(|_| ())
}

fn advance(db: &Connection, command: &RecordAppend, now: Timestamp) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE uploads SET offset_bytes = :to, size_bytes = iif(length_deferred, :to, size_bytes),
            hash_state = :hash, writer = iif(:goes_on, writer, NULL), updated_at_ms = :now,
            expires_at_ms = max(expires_at_ms, :expires)
         WHERE id = :id AND status = 'open' AND writer = :writer AND offset_bytes = :from",
    )?
    .execute(named_params! {
        ":id": command.id,
        ":writer": command.writer,
        ":from": signed(command.from),
        ":to": signed(command.to),
        ":hash": command.hash_state,
        ":goes_on": command.goes_on,
        ":now": now,
        ":expires": command.expires_at,
    })
    .map(|_| ())
}

/// With its last byte an upload that is no part is complete by itself.
fn finish(db: &Connection, command: &RecordAppend, now: Timestamp) -> Result<Upload> {
    let upload = demand(db, command.id, None)?;
    if upload.kind != UploadKind::Resumable || !upload.is_received() {
        return Ok(upload);
    }
    db.prepare_cached("UPDATE uploads SET received_sha256 = :sha256 WHERE id = :id")?
        .execute(named_params! {":id": command.id, ":sha256": command.sha256})?;
    set_status(db, command.id, UploadStatus::Open, UploadStatus::Verifying, None, now)?;
    demand(db, command.id, None)
}

fn set_writer(db: &Connection, id: UploadId, writer: [u8; 16], now: Timestamp) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE uploads SET writer = :writer, updated_at_ms = :now WHERE id = :id AND status = 'open'")?
        .execute(named_params! {":id": id, ":writer": writer, ":now": now})
        .map(|_| ())
}
