//! SQL of the uploads and of visible objects.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, named_params};

use crate::clock::Timestamp;
use crate::id::{UploadId, UserId};
use crate::jobs::QUEUES_OF_VIDEOS;
use crate::media::NewObject;
use crate::storage::{CommitSource, NewUpload, StorageUsage, Upload, UploadError, UploadStatus, UploadStore};
use crate::store::sqlite::{Fail, SqliteStore, named, refuse};
use crate::store::{Causes, Fence, Outcome, StoreError};

type Result<T, E = Fail<UploadError>> = std::result::Result<T, E>;

const SELECT: &str = "SELECT p.id, v.id AS video_id, u.id AS user_id, p.status, p.size_bytes, p.declared_sha256,
    p.staged_key, p.received_sha256, p.reason, p.created_at_ms, p.expires_at_ms
    FROM uploads p JOIN videos v ON v.pk = p.video_pk JOIN users u ON u.pk = p.user_pk";

fn upload_from(row: &Row<'_>) -> rusqlite::Result<Upload> {
    Ok(Upload {
        id: row.get("id")?,
        video: row.get("video_id")?,
        user: row.get("user_id")?,
        status: named(row, "status", UploadStatus::parse)?,
        size_bytes: row.get::<_, i64>("size_bytes")?.unsigned_abs(),
        declared_sha256: row.get("declared_sha256")?,
        staged_key: row.get("staged_key")?,
        received_sha256: row.get("received_sha256")?,
        reason: row.get("reason")?,
        created_at: row.get("created_at_ms")?,
        expires_at: row.get("expires_at_ms")?,
    })
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
            AND (status <> 'open' OR expires_at_ms > :now)",
    )?
    .query_row(named_params! {":user": user, ":now": now}, |row| {
        Ok(StorageUsage {
            stored_bytes: row.get::<_, i64>(0)?.unsigned_abs(),
            reserved_bytes: row.get::<_, i64>(1)?.unsigned_abs(),
        })
    })
}

fn open_count(db: &Connection, new: &NewUpload) -> rusqlite::Result<u32> {
    // Index uploads_video_open.
    db.prepare_cached(
        "SELECT count(*) FROM uploads
         WHERE video_pk = (SELECT pk FROM videos WHERE id = :video) AND status = 'open' AND expires_at_ms > :now",
    )?
    .query_row(named_params! {":video": new.video, ":now": new.now}, |row| row.get(0))
}

fn demand_owner(db: &Connection, new: &NewUpload) -> Result<()> {
    crate::catalog::sqlite::find(db, new.video)?
        .filter(|video| video.owner == new.user && video.deleted_at.is_none())
        .map(|_| ())
        .ok_or_else(|| refuse(UploadError::NotFound))
}

fn weigh(db: &Connection, new: &NewUpload) -> Result<()> {
    let usage = usage(db, new.user, new.now)?;
    let used_bytes = usage.stored_bytes.saturating_add(usage.reserved_bytes);
    if used_bytes.saturating_add(new.size_bytes) > new.quota_bytes {
        return Err(refuse(UploadError::QuotaExceeded { used_bytes, quota_bytes: new.quota_bytes }));
    }
    if open_count(db, new)? >= new.max_open {
        return Err(refuse(UploadError::TooManyOpen));
    }
    Ok(())
}

fn insert(db: &Connection, new: &NewUpload) -> Result<()> {
    let rows = db
        .prepare_cached(
            "INSERT INTO uploads (id, video_pk, user_pk, status, size_bytes, declared_sha256,
                created_at_ms, updated_at_ms, expires_at_ms)
             SELECT :id, v.pk, v.owner_pk, 'open', :size, :sha256, :now, :now, :expires
             FROM videos v JOIN users u ON u.pk = v.owner_pk
             WHERE v.id = :video AND u.id = :user AND v.deleted_at_ms IS NULL",
        )?
        .execute(named_params! {
            ":id": new.id,
            ":video": new.video,
            ":user": new.user,
            ":size": i64::try_from(new.size_bytes).unwrap_or(i64::MAX),
            ":sha256": new.declared_sha256,
            ":now": new.now,
            ":expires": new.expires_at,
        })?;
    if rows == 1 { Ok(()) } else { Err(refuse(UploadError::NotFound)) }
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
    })
    .map(|_| ())
}

fn demand_open(upload: &Upload, now: Timestamp, command: &'static str) -> Result<()> {
    match upload.status {
        UploadStatus::Open if upload.expires_at > now => Ok(()),
        UploadStatus::Open | UploadStatus::Expired => Err(refuse(UploadError::Expired)),
        status => Err(refuse(UploadError::WrongState { status, command })),
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
            demand_owner(db, &new)?;
            weigh(db, &new)?;
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
            if upload.staged_key.is_none() {
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
            demand(db, id, None)
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
            let video = crate::catalog::sqlite::find(db, upload.video)?.ok_or_else(|| refuse(UploadError::NotFound))?;
            if crate::catalog::sqlite::purge::has_begun(db, upload.video)? {
                return Err(refuse(UploadError::NotFound));
            }
            if video.deleted_at.is_some() {
                // Restoring plans the processing.
                effects.causes.jobs.clear();
            }
            crate::jobs::sqlite::cancel_of_video(db, upload.video, &QUEUES_OF_VIDEOS, leased_now, effects)?;
            set_status(db, command.upload, UploadStatus::Verifying, UploadStatus::Complete, None, command.now)?;
            crate::media::sqlite::insert_object(db, upload.video, &command.object, command.now)?;
            Ok(crate::catalog::sqlite::sparing_lists(db, upload.video, effects, || make_current(db, &command))?)
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
            }
            Ok(is_over)
        })
        .await
        .map(Outcome::into_inner)
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
