//! SQL of the uploads and of visible objects.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, named_params};

use crate::clock::Timestamp;
use crate::id::{UploadId, UserId};
use crate::jobs::QUEUES_OF_VIDEOS;
use crate::media::NewObject;
use crate::storage::{
    Appending, BeginAppend, CommitSource, JoinUploads, Multipart, NewUpload, RecordAppend, Segment, StorageUsage,
    Upload, UploadError, UploadKind, UploadStatus, UploadStore,
};
use crate::store::sqlite::{Fail, SqliteStore, named, refuse};
use crate::store::{Causes, Fence, Outcome, StoreError};

mod append;
mod join;
mod multipart;

type Result<T, E = Fail<UploadError>> = std::result::Result<T, E>;

const SELECT: &str = "SELECT p.id, v.id AS video_id, u.id AS user_id, p.kind, p.status, p.size_bytes,
    p.length_deferred, p.offset_bytes, p.writer IS NULL AS is_quiet, p.declared_sha256, p.staged_key, p.received_sha256, p.metadata,
    p.concatenation, p.part_size_bytes, p.bucket_upload, p.reason, p.created_at_ms, p.expires_at_ms
    FROM uploads p LEFT JOIN videos v ON v.pk = p.video_pk JOIN users u ON u.pk = p.user_pk";

fn upload_from(row: &Row<'_>) -> rusqlite::Result<Upload> {
    Ok(Upload {
        id: row.get("id")?,
        video: row.get("video_id")?,
        user: row.get("user_id")?,
        kind: named(row, "kind", UploadKind::parse)?,
        status: named(row, "status", UploadStatus::parse)?,
        size_bytes: row.get::<_, i64>("size_bytes")?.unsigned_abs(),
        length_deferred: row.get("length_deferred")?,
        offset_bytes: row.get::<_, i64>("offset_bytes")?.unsigned_abs(),
        is_quiet: row.get("is_quiet")?,
        declared_sha256: row.get("declared_sha256")?,
        staged_key: row.get("staged_key")?,
        multipart: multipart_from(row)?,
        received_sha256: row.get("received_sha256")?,
        metadata: row.get("metadata")?,
        concatenation: row.get("concatenation")?,
        reason: row.get("reason")?,
        created_at: row.get("created_at_ms")?,
        expires_at: row.get("expires_at_ms")?,
    })
}

fn multipart_from(row: &Row<'_>) -> rusqlite::Result<Option<Multipart>> {
    let part_size_bytes: Option<i64> = row.get("part_size_bytes")?;
    let bucket_upload = row.get("bucket_upload")?;
    Ok(part_size_bytes.map(|bytes| Multipart { part_size_bytes: bytes.unsigned_abs(), bucket_upload }))
}

fn find(db: &Connection, id: UploadId) -> rusqlite::Result<Option<Upload>> {
    db.prepare_cached(&format!("{SELECT} WHERE p.id = :id"))?
        .query_row(named_params! {":id": id}, upload_from)
        .optional()
}

fn demand(db: &Connection, id: UploadId, user: Option<UserId>) -> Result<Upload> {
    find(db, id)?
        .filter(|upload| user.is_none_or(|user| upload.user == user))
        .ok_or_else(|| refuse(UploadError::NotFound))
}

fn demand_held(db: &Connection, fence: Fence, now: Timestamp) -> Result<()> {
    if crate::jobs::sqlite::held(db, fence, now)? { Ok(()) } else { Err(refuse(UploadError::Fenced)) }
}

/// What a user's uploads take up; open ones count until `now` is past their time.
fn usage(db: &Connection, user: UserId, now: Timestamp) -> rusqlite::Result<StorageUsage> {
    // Index uploads_user_quota.
    db.prepare_cached(
        "SELECT coalesce(sum(iif(status = 'complete', size_bytes, 0)), 0),
                coalesce(sum(iif(status = 'complete', 0, size_bytes)), 0)
         FROM uploads
         WHERE user_pk = (SELECT pk FROM users WHERE id = :user) AND status IN ('open', 'verifying', 'complete')
            AND released = 0 AND (status <> 'open' OR expires_at_ms > :now)",
    )?
    .query_row(named_params! {":user": user, ":now": now}, |row| {
        Ok(StorageUsage {
            stored_bytes: row.get::<_, i64>(0)?.unsigned_abs(),
            reserved_bytes: row.get::<_, i64>(1)?.unsigned_abs(),
        })
    })
}

fn open_count(db: &Connection, new: &NewUpload) -> rusqlite::Result<u32> {
    let Some(video) = new.video else { return open_parts(db, new) };
    // Index uploads_video_open.
    db.prepare_cached(
        "SELECT count(*) FROM uploads
         WHERE video_pk = (SELECT pk FROM videos WHERE id = :video) AND status = 'open' AND expires_at_ms > :now",
    )?
    .query_row(named_params! {":video": video, ":now": new.now}, |row| row.get(0))
}

fn open_parts(db: &Connection, new: &NewUpload) -> rusqlite::Result<u32> {
    // Index uploads_user_quota.
    db.prepare_cached(
        "SELECT count(*) FROM uploads WHERE user_pk = (SELECT pk FROM users WHERE id = :user)
            AND status = 'open' AND released = 0 AND expires_at_ms > :now AND kind = 'part'",
    )?
    .query_row(named_params! {":user": new.user, ":now": new.now}, |row| row.get(0))
}

fn demand_owner(db: &Connection, new: &NewUpload) -> Result<()> {
    let Some(video) = new.video else { return Ok(()) };
    crate::catalog::sqlite::find(db, video)?
        .filter(|video| video.owner == new.user && video.deleted_at.is_none())
        .map(|_| ())
        .ok_or_else(|| refuse(UploadError::NotFound))
}

/// Whether the user may have `more` bytes stored or reserved than now; how many beyond these, if so.
fn weigh(db: &Connection, user: UserId, more: u64, quota_bytes: u64, now: Timestamp) -> Result<u64> {
    let usage = usage(db, user, now)?;
    let used_bytes = usage.stored_bytes.saturating_add(usage.reserved_bytes);
    quota_bytes
        .checked_sub(used_bytes.saturating_add(more))
        .ok_or_else(|| refuse(UploadError::QuotaExceeded { used_bytes, quota_bytes }))
}

fn demand_room(db: &Connection, new: &NewUpload) -> Result<()> {
    weigh(db, new.user, new.size_bytes.unwrap_or(0), new.quota_bytes, new.now)?;
    if open_count(db, new)? >= new.max_open {
        return Err(refuse(UploadError::TooManyOpen));
    }
    Ok(())
}

/// The video that is made along with the upload, if one is.
fn insert_draft(db: &Connection, new: &NewUpload) -> Result<()> {
    let Some(draft) = &new.draft else { return Ok(()) };
    crate::catalog::sqlite::insert(db, draft).map_err(|fail| match fail {
        Fail::Sql(error) => Fail::Sql(error),
        Fail::Refused(_) => refuse(UploadError::NotFound),
    })
}

fn insert(db: &Connection, new: &NewUpload) -> Result<()> {
    let rows = db
        .prepare_cached(
            "INSERT INTO uploads (id, video_pk, user_pk, kind, status, size_bytes, length_deferred, declared_sha256,
                part_size_bytes, metadata, concatenation, created_at_ms, updated_at_ms, expires_at_ms)
             SELECT :id, (SELECT pk FROM videos WHERE id = :video), u.pk, :kind, 'open', :size, :deferred, :sha256,
                :part_size, :metadata, :concatenation, :now, :now, :expires
             FROM users u WHERE u.id = :user",
        )?
        .execute(named_params! {
            ":id": new.id,
            ":video": new.video,
            ":user": new.user,
            ":kind": new.kind.as_str(),
            ":size": new.size_bytes.map_or(0, signed),
            ":deferred": new.size_bytes.is_none(),
            ":sha256": new.declared_sha256,
            ":part_size": new.part_size_bytes.map(signed),
            ":metadata": new.metadata,
            ":concatenation": new.concatenation,
            ":now": new.now,
            ":expires": new.expires_at,
        })?;
    if rows == 1 { Ok(()) } else { Err(refuse(UploadError::NotFound)) }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn segments(db: &Connection, id: UploadId) -> rusqlite::Result<Vec<Segment>> {
    // Primary key (upload_pk, seq).
    db.prepare_cached(
        "SELECT seq, key, size_bytes FROM upload_segments
         WHERE upload_pk = (SELECT pk FROM uploads WHERE id = :id) ORDER BY seq",
    )?
    .query_map(named_params! {":id": id}, |row| {
        Ok(Segment { seq: row.get(0)?, key: row.get(1)?, size_bytes: row.get::<_, i64>(2)?.unsigned_abs() })
    })?
    .collect()
}

/// Forgets a part that nobody can go on with: it belongs to no video whose purge would do so.
fn forget_part(db: &Connection, id: UploadId) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM uploads WHERE id = :id AND kind = 'part' AND status IN ('expired', 'aborted')")?
        .execute(named_params! {":id": id})
        .map(|_| ())
}

/// Moves an upload from one state to another; the caller has read it in this transaction.
fn set_status(
    db: &Connection,
    id: UploadId,
    from: UploadStatus,
    to: UploadStatus,
    reason: Option<&str>,
    now: Timestamp,
) -> rusqlite::Result<()> {
    debug_assert!(from.can_become(to), "{from} → {to}");
    db.prepare_cached(
        "UPDATE uploads SET status = :to, reason = coalesce(:reason, reason), updated_at_ms = :now
         WHERE id = :id AND status = :from",
    )?
    .execute(named_params! {
        ":id": id, ":from": from.as_str(), ":to": to.as_str(), ":reason": reason, ":now": now,
    })?;
    if to == UploadStatus::Verifying {
        return Ok(());
    }
    // Its bytes are elsewhere now, or nowhere. Primary key (upload_pk, seq).
    db.prepare_cached("DELETE FROM upload_segments WHERE upload_pk = (SELECT pk FROM uploads WHERE id = :id)")?
        .execute(named_params! {":id": id})
        .map(|_| ())
}

fn demand_open(upload: &Upload, now: Timestamp, command: &'static str) -> Result<()> {
    match upload.status {
        UploadStatus::Open if upload.expires_at > now => Ok(()),
        UploadStatus::Open | UploadStatus::Expired => Err(refuse(UploadError::Expired)),
        status => Err(refuse(UploadError::WrongState { status, command })),
    }
}

fn demand_whole(upload: &Upload) -> Result<()> {
    match upload.kind {
        UploadKind::Whole => Ok(()),
        kind => Err(refuse(UploadError::WrongKind { kind, command: "take all bytes at once" })),
    }
}

fn make_current(db: &Connection, command: &CommitSource) -> rusqlite::Result<()> {
    let source = &command.source;
    db.prepare_cached("UPDATE sources SET current = 0 WHERE video_pk = (SELECT pk FROM videos WHERE id = :video)")?
        .execute(named_params! {":video": source.video})?;
    db.prepare_cached(
        "INSERT INTO sources (id, video_pk, upload_id, object_key, size_bytes, sha256, content_type, current, created_at_ms)
         SELECT :id, pk, :upload, :key, :size, :sha256, :content_type, 1, :now FROM videos WHERE id = :video",
    )?
    .execute(named_params! {
        ":id": source.id,
        ":video": source.video,
        ":upload": source.upload,
        ":key": source.object_key,
        ":size": i64::try_from(source.size_bytes).unwrap_or(i64::MAX),
        ":sha256": source.sha256,
        ":content_type": source.content_type,
        ":now": command.now,
    })?;
    db.prepare_cached(
        "UPDATE videos SET status = 'uploaded', failure = NULL, version = version + 1, updated_at_ms = :now
         WHERE id = :video",
    )?
    .execute(named_params! {":video": source.video, ":now": command.now})
    .map(|_| ())
}

#[async_trait]
impl UploadStore for SqliteStore {
    async fn create_upload(&self, new: NewUpload, causes: Causes) -> Result<Outcome<Upload>, UploadError> {
        self.command("open an upload", causes, move |db, _| {
            // Whose video it is comes first: what else is refused would tell a stranger that it exists.
            insert_draft(db, &new)?;
            demand_owner(db, &new)?;
            demand_room(db, &new)?;
            insert(db, &new)?;
            demand(db, new.id, None)
        })
        .await
    }

    async fn upload(&self, id: UploadId) -> Result<Option<Upload>, UploadError> {
        self.read("read an upload", move |db| Ok(find(db, id)?)).await
    }

    async fn record_received(
        &self,
        id: UploadId,
        staged_key: String,
        size_bytes: u64,
        sha256: [u8; 32],
    ) -> Result<Upload, UploadError> {
        self.command("record received bytes", Causes::none(), move |db, now| {
            let upload = demand(db, id, None)?;
            demand_whole(&upload)?;
            if upload.staged_key.is_some() {
                return Err(refuse(UploadError::AlreadyReceived));
            }
            demand_open(&upload, now, "take bytes")?;
            if size_bytes != upload.size_bytes {
                return Err(refuse(UploadError::SizeMismatch { declared: upload.size_bytes, received: size_bytes }));
            }
            db.prepare_cached(
                "UPDATE uploads SET staged_key = :key, received_sha256 = :sha256, updated_at_ms = :now
                 WHERE id = :id AND status = 'open' AND staged_key IS NULL",
            )?
            .execute(named_params! {":id": id, ":key": staged_key, ":sha256": sha256, ":now": now})?;
            demand(db, id, None)
        })
        .await
        .map(Outcome::into_inner)
    }

    async fn complete_upload(
        &self,
        id: UploadId,
        user: UserId,
        causes: Causes,
    ) -> Result<Outcome<Upload>, UploadError> {
        self.command_with("complete an upload", causes, move |db, now, effects| {
            let upload = demand(db, id, Some(user))?;
            if matches!(upload.status, UploadStatus::Verifying | UploadStatus::Complete) {
                effects.causes.jobs.clear();
                return Ok(upload);
            }
            demand_open(&upload, now, "be completed")?;
            if upload.kind == UploadKind::Part {
                return Err(refuse(UploadError::WrongKind { kind: upload.kind, command: "be completed by itself" }));
            }
            if !upload.is_received() {
                return Err(refuse(UploadError::NoBytes));
            }
            set_status(db, id, UploadStatus::Open, UploadStatus::Verifying, None, now)?;
            demand(db, id, None)
        })
        .await
    }

    async fn abort_upload(
        &self,
        id: UploadId,
        user: UserId,
        now: Timestamp,
        causes: Causes,
    ) -> Result<Outcome<Upload>, UploadError> {
        self.command("abort an upload", causes, move |db, _| {
            let upload = demand(db, id, Some(user))?;
            if upload.status != UploadStatus::Open {
                return Err(refuse(UploadError::WrongState { status: upload.status, command: "be aborted" }));
            }
            set_status(db, id, UploadStatus::Open, UploadStatus::Aborted, None, now)?;
            let upload = demand(db, id, None)?;
            forget_part(db, id)?;
            Ok(upload)
        })
        .await
    }

    async fn commit_source(&self, command: CommitSource, causes: Causes) -> Result<(), UploadError> {
        self.settlement("commit a source", causes, move |db, leased_now, effects| {
            demand_held(db, command.fence, leased_now)?;
            let upload = demand(db, command.upload, None)?;
            if upload.status != UploadStatus::Verifying {
                return Err(refuse(UploadError::WrongState { status: upload.status, command: "be committed" }));
            }
            let video = command.source.video;
            let found = crate::catalog::sqlite::find(db, video)?.ok_or_else(|| refuse(UploadError::NotFound))?;
            if crate::catalog::sqlite::purge::has_begun(db, video)? {
                return Err(refuse(UploadError::NotFound));
            }
            if found.deleted_at.is_some() {
                // Restoring plans the processing.
                effects.causes.jobs.clear();
            }
            crate::jobs::sqlite::cancel_of_video(db, video, &QUEUES_OF_VIDEOS, leased_now, effects)?;
            set_status(db, command.upload, UploadStatus::Verifying, UploadStatus::Complete, None, command.now)?;
            crate::media::sqlite::insert_object(db, video, &command.object, command.now)?;
            Ok(crate::catalog::sqlite::sparing_lists(db, video, effects, || make_current(db, &command))?)
        })
        .await
    }

    async fn record_joined(&self, fence: Fence, id: UploadId, sha256: [u8; 32]) -> Result<(), UploadError> {
        self.settlement("record a joined upload", Causes::none(), move |db, leased_now, _| {
            demand_held(db, fence, leased_now)?;
            join::record(db, &demand(db, id, None)?, sha256, leased_now)
        })
        .await
    }

    async fn reject_upload(
        &self,
        fence: Fence,
        id: UploadId,
        reason: String,
        now: Timestamp,
    ) -> Result<(), UploadError> {
        self.settlement("reject an upload", Causes::none(), move |db, leased_now, _| {
            demand_held(db, fence, leased_now)?;
            let upload = demand(db, id, None)?;
            if upload.status != UploadStatus::Verifying {
                return Err(refuse(UploadError::WrongState { status: upload.status, command: "be rejected" }));
            }
            Ok(set_status(db, id, UploadStatus::Verifying, UploadStatus::Rejected, Some(&reason), now)?)
        })
        .await
    }

    async fn expired_uploads(&self, before: Timestamp, limit: u16) -> Result<Vec<UploadId>, UploadError> {
        self.read("find expired uploads", move |db| {
            // Index uploads_expiry.
            let ids = db
                .prepare_cached(
                    "SELECT id FROM uploads WHERE status = 'open' AND expires_at_ms < :before
                     ORDER BY expires_at_ms LIMIT :limit",
                )?
                .query_map(named_params! {":before": before, ":limit": limit}, |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            Ok(ids)
        })
        .await
    }

    async fn expire_upload(&self, id: UploadId, now: Timestamp) -> Result<bool, UploadError> {
        self.command("expire an upload", Causes::none(), move |db, _| {
            let upload = demand(db, id, None)?;
            let is_over = upload.status == UploadStatus::Open && upload.expires_at <= now;
            if is_over {
                set_status(db, id, UploadStatus::Open, UploadStatus::Expired, None, now)?;
                forget_part(db, id)?;
            }
            Ok(is_over)
        })
        .await
        .map(Outcome::into_inner)
    }

    async fn begin_append(&self, command: BeginAppend) -> Result<Appending, UploadError> {
        self.command("begin to append", Causes::none(), move |db, now| append::begin(db, &command, now))
            .await
            .map(Outcome::into_inner)
    }

    async fn record_append(&self, command: RecordAppend, causes: Causes) -> Result<Upload, UploadError> {
        self.command_with("record appended bytes", causes, move |db, now, effects| {
            let upload = append::record(db, &command, now)?;
            if upload.status != UploadStatus::Verifying {
                effects.causes.jobs.clear();
            }
            Ok(upload)
        })
        .await
        .map(Outcome::into_inner)
    }

    async fn join_uploads(&self, command: JoinUploads, causes: Causes) -> Result<Outcome<Upload>, UploadError> {
        self.command("join uploads", causes, move |db, now| join::join(db, command, now)).await
    }

    async fn begin_parts(&self, id: UploadId, user: UserId, bucket_upload: String) -> Result<Upload, UploadError> {
        self.command("begin an upload in parts", Causes::none(), move |db, now| {
            multipart::begin(db, id, user, &bucket_upload, now)
        })
        .await
        .map(Outcome::into_inner)
    }

    async fn bucket_uploads(&self, ids: Vec<String>) -> Result<Vec<(String, UploadStatus)>, StoreError> {
        self.read("look for uploads in parts", move |db| Ok(multipart::named_by(db, ids)?)).await
    }

    async fn upload_segments(&self, id: UploadId) -> Result<Vec<Segment>, UploadError> {
        self.read("read an upload's segments", move |db| Ok(segments(db, id)?)).await
    }

    async fn storage_usage(&self, user: UserId) -> Result<StorageUsage, UploadError> {
        // From the beginning of time no upload has expired: what nobody has cleared yet counts.
        self.read("sum storage", move |db| Ok(usage(db, user, Timestamp::from_millis(i64::MIN))?)).await
    }

    async fn object(&self, key: &str) -> Result<Option<NewObject>, StoreError> {
        let key = key.to_owned();
        self.read("read an object's row", move |db| {
            let object = db
                .prepare_cached("SELECT key, size_bytes, sha256, content_type FROM objects WHERE key = :key")?
                .query_row(named_params! {":key": key}, |row| {
                    Ok(NewObject {
                        key: row.get(0)?,
                        size_bytes: row.get::<_, i64>(1)?.unsigned_abs(),
                        sha256: row.get(2)?,
                        content_type: row.get(3)?,
                    })
                })
                .optional()?;
            Ok(object)
        })
        .await
    }
}
