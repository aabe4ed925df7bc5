//! SQL of the catalog: the video's row, its lists and the full-text index.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, named_params};

use crate::catalog::popularity::{NewView, RankedVideos, RankingAt, RankingKind, sqlite as popularity};
use crate::catalog::{
    CatalogError, CatalogStore, DuePurge, NewVideo, OwnerScope, POPULAR, PatchVideo, SEARCH, SearchTerms, TrashVideo,
    Video, VideoStatus, Visibility,
};
use crate::clock::Timestamp;
use crate::id::{UploadId, UserId, VideoId};
use crate::jobs::QUEUES_OF_VIDEOS;
use crate::media::RenditionKind;
use crate::page::Position;
use crate::store::sqlite::{Effects, Fail, SqliteStore, json, named, refuse};
use crate::store::{Causes, Outcome, StoreError};

pub(crate) mod purge;

type Result<T, E = Fail<CatalogError>> = std::result::Result<T, E>;

pub(super) const SELECT: &str = "SELECT v.id, u.id AS owner_id, u.handle AS owner_handle, v.title, v.description, v.tags,
    v.visibility, v.status, v.version, v.failure, v.duration_ms, v.width, v.height, v.poster_key, v.storyboard_key,
    v.playback_kind, v.playback_epoch, v.views, v.created_at_ms, v.updated_at_ms, v.published_at_ms, v.deleted_at_ms, v.purge_at_ms
    FROM videos v JOIN users u ON u.pk = v.owner_pk";

/// The condition of every public list, word for word that of the partial indexes.
pub(super) const LISTED: &str = "v.visibility = 'public' AND v.published_at_ms IS NOT NULL AND v.deleted_at_ms IS NULL";

pub(super) fn video_from(row: &Row<'_>) -> rusqlite::Result<Video> {
    Ok(Video {
        id: row.get("id")?,
        owner: row.get("owner_id")?,
        owner_handle: row.get("owner_handle")?,
        title: row.get("title")?,
        description: row.get("description")?,
        tags: json(row, "tags")?,
        visibility: named(row, "visibility", Visibility::parse)?,
        status: named(row, "status", VideoStatus::parse)?,
        version: row.get("version")?,
        failure: row.get("failure")?,
        duration_ms: row.get("duration_ms")?,
        width: row.get("width")?,
        height: row.get("height")?,
        poster_key: row.get("poster_key")?,
        storyboard_key: row.get("storyboard_key")?,
        playback_kind: row.get::<_, Option<String>>("playback_kind")?.as_deref().and_then(RenditionKind::parse),
        playback_epoch: row.get("playback_epoch")?,
        views: row.get::<_, i64>("views")?.unsigned_abs(),
        created_at: row.get("created_at_ms")?,
        updated_at: row.get("updated_at_ms")?,
        published_at: row.get("published_at_ms")?,
        deleted_at: row.get("deleted_at_ms")?,
        purge_at: row.get("purge_at_ms")?,
    })
}

/// The video with this id, trashed or not.
pub(crate) fn find(db: &Connection, id: VideoId) -> rusqlite::Result<Option<Video>> {
    db.prepare_cached(&format!("{SELECT} WHERE v.id = :id"))?
        .query_row(named_params! {":id": id}, video_from)
        .optional()
}

/// Whether the video stands in public lists.
fn is_listed(db: &Connection, id: VideoId) -> rusqlite::Result<bool> {
    db.prepare_cached(&format!("SELECT EXISTS (SELECT 1 FROM videos v WHERE v.id = :id AND {LISTED})"))?
        .query_row(named_params! {":id": id}, |row| row.get(0))
}

/// Does the work of a command about a video, and leaves public lists out of what becomes stale if the video
/// stands in none before and after: what happens to drafts is nothing to those who read lists.
pub(crate) fn sparing_lists<T>(
    db: &Connection,
    id: VideoId,
    effects: &mut Effects,
    work: impl FnOnce() -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let was_listed = is_listed(db, id)?;
    let value = work()?;
    if !was_listed && !is_listed(db, id)? {
        effects.causes.changes.retain(|change| change.topic != POPULAR && change.topic != SEARCH);
    }
    Ok(value)
}

pub(crate) fn find_owned(db: &Connection, id: VideoId, owner: Option<UserId>, trashed: bool) -> Result<Video> {
    find(db, id)?
        .filter(|video| owner.is_none_or(|owner| video.owner == owner) && video.deleted_at.is_some() == trashed)
        .ok_or_else(|| refuse(CatalogError::NotFound))
}

fn demand_version(video: &Video, expected: Option<i64>) -> Result<()> {
    match expected {
        Some(expected) if expected != video.version => {
            Err(refuse(CatalogError::VersionMismatch { current: video.version }))
        }
        _ => Ok(()),
    }
}

pub(crate) fn insert(db: &Connection, new: &NewVideo) -> Result<()> {
    let rows = db
        .prepare_cached(
            "INSERT INTO videos (id, owner_pk, title, description, tags, visibility, status, created_at_ms, updated_at_ms)
             SELECT :id, pk, :title, :description, :tags, :visibility, 'draft', :now, :now FROM users WHERE id = :owner",
        )?
        .execute(named_params! {
            ":id": new.id,
            ":owner": new.owner,
            ":title": new.title,
            ":description": new.description,
            ":tags": serde_json::json!(new.tags).to_string(),
            ":visibility": new.visibility.as_str(),
            ":now": new.now,
        })?;
    if rows == 1 { Ok(()) } else { Err(refuse(CatalogError::NotFound)) }
}

fn patch(db: &Connection, video: &Video, command: &PatchVideo) -> rusqlite::Result<()> {
    let change = &command.patch;
    let closes = change.visibility == Some(Visibility::Private) && video.visibility != Visibility::Private;
    db.prepare_cached(
        "UPDATE videos SET title = coalesce(:title, title), description = coalesce(:description, description),
            tags = coalesce(:tags, tags), visibility = coalesce(:visibility, visibility),
            playback_epoch = playback_epoch + :closes, version = version + 1, updated_at_ms = :now
         WHERE id = :id AND version = :expected AND deleted_at_ms IS NULL",
    )?
    .execute(named_params! {
        ":id": video.id,
        ":expected": video.version,
        ":title": change.title,
        ":description": change.description,
        ":tags": change.tags.as_ref().map(|tags| serde_json::json!(tags).to_string()),
        ":visibility": change.visibility.map(Visibility::as_str),
        ":closes": closes,
        ":now": command.now,
    })
    .map(|_| ())
}

/// A video that was being processed loses its jobs with the trashing, so it is `uploaded` again: a
/// source of which something is ready is never `processing`.
fn settle_processing(db: &Connection, id: VideoId) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE videos SET status = 'uploaded' WHERE id = :id AND status = 'processing'")?
        .execute(named_params! {":id": id})
        .map(|_| ())
}

/// Whether the trashing kept something from being made: nothing was begun, not all of what was planned came
/// to an end, or a job stopped.
fn waits_for_processing(db: &Connection, video: &Video) -> rusqlite::Result<bool> {
    match video.status {
        VideoStatus::Uploaded => Ok(true),
        VideoStatus::Ready => Ok(has_unmade(db, video.id)? || lost_jobs(db, video)?),
        VideoStatus::Failed => lost_jobs(db, video),
        VideoStatus::Draft | VideoStatus::Processing => Ok(false),
    }
}

fn has_unmade(db: &Connection, id: VideoId) -> rusqlite::Result<bool> {
    // Index sources_one_current.
    db.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM renditions r JOIN sources s ON s.pk = r.source_pk
            WHERE s.video_pk = (SELECT pk FROM videos WHERE id = :id) AND s.current = 1
                AND r.status IN ('planned', 'encoding'))",
    )?
    .query_row(named_params! {":id": id}, |row| row.get(0))
}

/// Whether the trashing stopped a job, such as that of a picture. One that somebody stopped since counts too:
/// a job that finds nothing to do is cheap.
fn lost_jobs(db: &Connection, video: &Video) -> rusqlite::Result<bool> {
    // Index jobs_video.
    db.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM jobs WHERE video_id = :id AND queue IN ('video', 'media')
            AND ((state = 'cancelled' AND finished_at_ms >= :since) OR (state = 'leased' AND cancel_requested = 1)))",
    )?
    .query_row(named_params! {":id": video.id, ":since": video.deleted_at}, |row| row.get(0))
}

fn trash(db: &Connection, command: &TrashVideo) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE videos SET deleted_at_ms = :now, purge_at_ms = :purge_at, playback_epoch = playback_epoch + 1,
            version = version + 1, updated_at_ms = :now
         WHERE id = :id AND deleted_at_ms IS NULL",
    )?
    .execute(named_params! {":id": command.id, ":now": command.now, ":purge_at": command.purge_at})
    .map(|_| ())
}

fn untrash(db: &Connection, command: &TrashVideo) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE videos SET deleted_at_ms = NULL, purge_at_ms = NULL, version = version + 1, updated_at_ms = :now
         WHERE id = :id AND deleted_at_ms IS NOT NULL",
    )?
    .execute(named_params! {":id": command.id, ":now": command.now})
    .map(|_| ())
}

fn bump_epoch(db: &Connection, id: VideoId, now: Timestamp) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE videos SET playback_epoch = playback_epoch + 1, version = version + 1, updated_at_ms = :now
         WHERE id = :id",
    )?
    .execute(named_params! {":id": id, ":now": now})
    .map(|_| ())
}

/// A keyset page: everything before `after` in descending order, or from the top.
fn page(
    db: &Connection,
    condition: &str,
    sort: &str,
    owner: Option<UserId>,
    after: Option<Position>,
    limit: u16,
) -> rusqlite::Result<Vec<Video>> {
    let sql = format!(
        "{SELECT} WHERE {condition} AND ({sort}, v.id) < (:sort, :after) ORDER BY {sort} DESC, v.id DESC LIMIT :limit"
    );
    // The top of the list stands before every row: no time is the greatest number, no id all ones.
    let after = after.unwrap_or(Position { sort: i64::MAX, id: [0xff; 16] });
    let mut statement = db.prepare_cached(&sql)?;
    match owner {
        Some(owner) => statement
            .query_map(
                named_params! {":owner": owner, ":sort": after.sort, ":after": &after.id[..], ":limit": limit},
                video_from,
            )?
            .collect(),
        None => statement
            .query_map(named_params! {":sort": after.sort, ":after": &after.id[..], ":limit": limit}, video_from)?
            .collect(),
    }
}

/// The terms as an FTS5 query: every word a quoted string, the last one a prefix.
fn match_expression(terms: &SearchTerms) -> String {
    let quoted: Vec<String> = terms.words().iter().map(|word| format!("\"{}\"", word.replace('"', "\"\""))).collect();
    format!("{} *", quoted.join(" "))
}

fn search(db: &Connection, terms: &SearchTerms, offset: u32, limit: u16) -> rusqlite::Result<Vec<Video>> {
    // A word in the title is worth ten in the description, a tag five; ties go to the newest.
    let sql = format!(
        "{SELECT} JOIN videos_fts f ON f.rowid = v.pk
         WHERE videos_fts MATCH :query AND {LISTED}
         ORDER BY bm25(videos_fts, 10.0, 1.0, 5.0), v.published_at_ms DESC, v.id DESC LIMIT :limit OFFSET :offset"
    );
    db.prepare_cached(&sql)?
        .query_map(named_params! {":query": match_expression(terms), ":limit": limit, ":offset": offset}, video_from)?
        .collect()
}

#[async_trait]
impl CatalogStore for SqliteStore {
    async fn create_video(&self, new: NewVideo, causes: Causes) -> Result<Outcome<Video>, CatalogError> {
        self.command("create a video", causes, move |db, _| {
            insert(db, &new)?;
            find_owned(db, new.id, None, false)
        })
        .await
    }

    async fn video(&self, id: VideoId) -> Result<Option<Video>, CatalogError> {
        self.read("read a video", move |db| Ok(find(db, id)?)).await
    }

    async fn patch_video(&self, command: PatchVideo, causes: Causes) -> Result<Outcome<Video>, CatalogError> {
        self.command_with("change a video", causes, move |db, _, effects| {
            let video = find_owned(db, command.id, command.owner, false)?;
            demand_version(&video, Some(command.expected))?;
            sparing_lists(db, command.id, effects, || patch(db, &video, &command))?;
            find_owned(db, command.id, None, false)
        })
        .await
    }

    async fn trash_video(&self, command: TrashVideo, causes: Causes) -> Result<Outcome<Video>, CatalogError> {
        self.command_with("trash a video", causes, move |db, now, effects| {
            let video = find_owned(db, command.id, command.owner, false)?;
            demand_version(&video, command.expected)?;
            crate::jobs::sqlite::cancel_of_video(db, command.id, &QUEUES_OF_VIDEOS, now, effects)?;
            settle_processing(db, command.id)?;
            sparing_lists(db, command.id, effects, || trash(db, &command))?;
            find_owned(db, command.id, None, true)
        })
        .await
    }

    async fn restore_video(&self, command: TrashVideo, causes: Causes) -> Result<Outcome<Video>, CatalogError> {
        self.command_with("restore a video", causes, move |db, _, effects| {
            let video = find_owned(db, command.id, command.owner, true)?;
            if purge::has_begun(db, command.id)? {
                return Err(refuse(CatalogError::NotFound));
            }
            demand_version(&video, command.expected)?;
            if !waits_for_processing(db, &video)? {
                effects.causes.jobs.clear();
            }
            sparing_lists(db, command.id, effects, || untrash(db, &command))?;
            find_owned(db, command.id, None, false)
        })
        .await
    }

    async fn videos_to_purge(
        &self,
        now: Timestamp,
        after: Option<DuePurge>,
        limit: u16,
    ) -> Result<Vec<DuePurge>, CatalogError> {
        self.read("find videos to purge", move |db| Ok(purge::due(db, now, after, limit)?)).await
    }

    async fn begin_purge(&self, id: VideoId, now: Timestamp) -> Result<Vec<UploadId>, CatalogError> {
        self.command("begin a purge", Causes::none(), move |db, settled_now| {
            if !purge::begin(db, id, now)? {
                return Err(refuse(CatalogError::NotFound));
            }
            crate::jobs::sqlite::end_all_of_video(db, id, settled_now)?;
            Ok(purge::uploads(db, id)?)
        })
        .await
        .map(Outcome::into_inner)
    }

    async fn finish_purge(&self, id: VideoId, causes: Causes) -> Result<bool, CatalogError> {
        self.command_with("finish a purge", causes, move |db, now, effects| {
            let purged = sparing_lists(db, id, effects, || purge::finish(db, id))?;
            if purged {
                crate::jobs::sqlite::forget_all_of_video(db, id, now)?;
            } else {
                effects.causes.changes.clear();
            }
            Ok(purged)
        })
        .await
        .map(Outcome::into_inner)
    }

    async fn bump_playback_epoch(
        &self,
        id: VideoId,
        owner: Option<UserId>,
        now: Timestamp,
        causes: Causes,
    ) -> Result<Outcome<Video>, CatalogError> {
        self.command_with("revoke playback links", causes, move |db, _, effects| {
            find_owned(db, id, owner, false)?;
            sparing_lists(db, id, effects, || bump_epoch(db, id, now))?;
            find_owned(db, id, None, false)
        })
        .await
    }

    async fn public_videos(&self, after: Option<Position>, limit: u16) -> Result<Vec<Video>, CatalogError> {
        // Index videos_public_newest.
        self.read("list public videos", move |db| Ok(page(db, LISTED, "v.published_at_ms", None, after, limit)?)).await
    }

    async fn videos_of(
        &self,
        owner: UserId,
        scope: OwnerScope,
        after: Option<Position>,
        limit: u16,
    ) -> Result<Vec<Video>, CatalogError> {
        const OWNED: &str = "v.owner_pk = (SELECT pk FROM users WHERE id = :owner)";
        self.read("list an owner's videos", move |db| {
            // Indexes videos_owner_public, videos_owner_newest, videos_owner_trash.
            let (condition, sort) = match scope {
                OwnerScope::Public => (format!("{OWNED} AND {LISTED}"), "v.published_at_ms"),
                OwnerScope::Own => (format!("{OWNED} AND v.deleted_at_ms IS NULL"), "v.created_at_ms"),
                OwnerScope::Trash => (format!("{OWNED} AND v.deleted_at_ms IS NOT NULL"), "v.created_at_ms"),
            };
            Ok(page(db, &condition, sort, Some(owner), after, limit)?)
        })
        .await
    }

    async fn ranked_videos(
        &self,
        kind: RankingKind,
        at: RankingAt,
        now: Timestamp,
        from: u32,
        limit: u16,
    ) -> Result<Option<RankedVideos>, StoreError> {
        self.read("read a ranking", move |db| Ok(popularity::read(db, kind, at, now, from, limit)?)).await
    }

    async fn build_ranking(&self, kind: RankingKind, now: Timestamp) -> Result<Option<i64>, StoreError> {
        self.command("build a ranking", Causes::none(), move |db, _| Ok(popularity::build(db, kind, now)?))
            .await
            .map(Outcome::into_inner)
    }

    async fn search_videos(&self, terms: &SearchTerms, offset: u32, limit: u16) -> Result<Vec<Video>, CatalogError> {
        let terms = terms.clone();
        self.read("search videos", move |db| Ok(search(db, &terms, offset, limit)?)).await
    }

    async fn count_views(&self, views: Vec<NewView>) -> Result<Vec<Option<Timestamp>>, StoreError> {
        self.command("count views", Causes::none(), move |db, _| Ok(popularity::count(db, &views)?))
            .await
            .map(Outcome::into_inner)
    }

    async fn prune_viewers(&self, before: Timestamp, limit: u16) -> Result<u64, StoreError> {
        let prune = move |db: &Connection, _| Ok(popularity::prune_viewers(db, before, limit)?);
        self.command("prune viewers", Causes::none(), prune).await.map(Outcome::into_inner)
    }
}
