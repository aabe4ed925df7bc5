//! SQL of sources, renditions and their objects. Every command is fenced by the job's lease.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, named_params};

use crate::catalog::sqlite::sparing_lists;
use crate::catalog::{CatalogError, Video, VideoStatus};
use crate::clock::Timestamp;
use crate::id::{RenditionId, SourceId, VideoId};
use crate::media::{
    MediaInfo, NewObject, PlannedRendition, PublishRendition, Rendition, RenditionKind, RenditionStatus,
    RenditionStore, SettleVideo, Source, SourceFacts,
};
use crate::store::sqlite::{Fail, SqliteStore, named, refuse};
use crate::store::{Causes, Fence, Outcome, StoreError};

mod lifecycle;
mod settle;
mod shown;

use settle::settle;
use shown::{Picture, is_shown, publish_picture, show};

type Result<T, E = Fail<CatalogError>> = std::result::Result<T, E>;

const SOURCE: &str = "SELECT s.id, v.id AS video_id, s.upload_id, s.object_key, s.size_bytes, s.sha256, s.content_type
    FROM sources s JOIN videos v ON v.pk = s.video_pk";

const RENDITION: &str = "SELECT r.id, v.id AS video_id, s.id AS source_id, r.name, r.kind, r.status, r.width,
    r.height, r.bandwidth, r.codecs, r.prefix, r.failure, r.ready_at_ms
    FROM renditions r JOIN sources s ON s.pk = r.source_pk JOIN videos v ON v.pk = s.video_pk";

/// Whether the attempt that puts objects under the prefix `p` has not ended.
const RUNS: &str = "EXISTS (SELECT 1 FROM job_attempts a JOIN jobs j ON j.pk = a.job_pk
    WHERE a.token = p.token AND j.id = p.job_id AND a.ended_at_ms IS NULL)";

fn source_from(row: &Row<'_>) -> rusqlite::Result<Source> {
    Ok(Source {
        id: row.get("id")?,
        video: row.get("video_id")?,
        upload: row.get("upload_id")?,
        object_key: row.get("object_key")?,
        size_bytes: row.get::<_, i64>("size_bytes")?.unsigned_abs(),
        sha256: row.get("sha256")?,
        content_type: row.get("content_type")?,
    })
}

fn rendition_from(row: &Row<'_>) -> rusqlite::Result<Rendition> {
    Ok(Rendition {
        id: row.get("id")?,
        video: row.get("video_id")?,
        source: row.get("source_id")?,
        name: row.get("name")?,
        kind: named(row, "kind", RenditionKind::parse)?,
        status: named(row, "status", RenditionStatus::parse)?,
        width: row.get("width")?,
        height: row.get("height")?,
        bandwidth: row.get("bandwidth")?,
        codecs: row.get("codecs")?,
        prefix: row.get("prefix")?,
        failure: row.get("failure")?,
        ready_at: row.get("ready_at_ms")?,
    })
}

fn facts_from(row: &Row<'_>) -> rusqlite::Result<SourceFacts> {
    // A container is what every probe finds.
    let info = match row.get::<_, Option<String>>("container")? {
        Some(container) => Some(MediaInfo {
            container,
            content_type: row.get("content_type")?,
            duration_ms: row.get::<_, Option<i64>>("duration_ms")?.map(i64::unsigned_abs),
            width: row.get("width")?,
            height: row.get("height")?,
            video_codec: row.get("video_codec")?,
            audio_codec: row.get("audio_codec")?,
        }),
        None => None,
    };
    Ok(SourceFacts {
        info,
        poster_key: row.get("poster_key")?,
        storyboard_key: row.get("storyboard_key")?,
        is_dropped: row.get::<_, Option<i64>>("dropped_at_ms")?.is_some(),
    })
}

fn source_facts(db: &Connection, source: SourceId) -> rusqlite::Result<Option<SourceFacts>> {
    db.prepare_cached(
        "SELECT container, content_type, duration_ms, width, height, video_codec, audio_codec, poster_key,
            storyboard_key, dropped_at_ms
         FROM sources WHERE id = :id",
    )?
    .query_row(named_params! {":id": source}, facts_from)
    .optional()
}

fn demand_held(db: &Connection, fence: Fence, now: Timestamp) -> Result<()> {
    if crate::jobs::sqlite::held(db, fence, now)? { Ok(()) } else { Err(refuse(CatalogError::Fenced)) }
}

fn current_source(db: &Connection, video: VideoId) -> rusqlite::Result<Option<Source>> {
    // Index sources_one_current.
    db.prepare_cached(&format!("{SOURCE} WHERE v.id = :video AND s.current = 1"))?
        .query_row(named_params! {":video": video}, source_from)
        .optional()
}

fn renditions(db: &Connection, video: VideoId) -> rusqlite::Result<Vec<Rendition>> {
    db.prepare_cached(&format!("{RENDITION} WHERE v.id = :video AND s.current = 1 ORDER BY r.height DESC, r.pk"))?
        .query_map(named_params! {":video": video}, rendition_from)?
        .collect()
}

fn demand_current(db: &Connection, source: SourceId) -> Result<Source> {
    db.prepare_cached(&format!("{SOURCE} WHERE s.id = :id AND s.current = 1"))?
        .query_row(named_params! {":id": source}, source_from)
        .optional()?
        .ok_or_else(|| refuse(CatalogError::NotFound))
}

/// Ready renditions of the newest source that has any: what is played while a newer source is processed.
fn playable(db: &Connection, video: VideoId) -> rusqlite::Result<Vec<Rendition>> {
    db.prepare_cached(&format!(
        "{RENDITION} WHERE v.id = :video AND r.status = 'ready' AND s.pk = (
            SELECT max(s2.pk) FROM sources s2 JOIN renditions r2 ON r2.source_pk = s2.pk
            WHERE s2.video_pk = v.pk AND r2.status = 'ready')
         ORDER BY r.height DESC, r.pk"
    ))?
    .query_map(named_params! {":video": video}, rendition_from)?
    .collect()
}

fn live_video(db: &Connection, id: VideoId) -> Result<Video> {
    crate::catalog::sqlite::find(db, id)?
        .filter(|video| video.deleted_at.is_none())
        .ok_or_else(|| refuse(CatalogError::NotFound))
}

/// Whether something of this source can be played already.
fn has_ready_rendition(db: &Connection, source: SourceId) -> rusqlite::Result<bool> {
    // Index (source_pk, name).
    db.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM renditions
            WHERE source_pk = (SELECT pk FROM sources WHERE id = :source) AND status = 'ready')",
    )?
    .query_row(named_params! {":source": source}, |row| row.get(0))
}

fn start(db: &Connection, video: &Video, source: SourceId, now: Timestamp) -> Result<()> {
    // A video that is ready with this very source stays so: an attempt that finds everything made
    // publishes nothing, and so could not move it back.
    if video.status == VideoStatus::Processing
        || (video.status == VideoStatus::Ready && has_ready_rendition(db, source)?)
    {
        return Ok(());
    }
    if !video.status.can_become(VideoStatus::Processing) {
        return Err(refuse(CatalogError::WrongState { status: video.status.as_str(), command: "be processed" }));
    }
    db.prepare_cached(
        "UPDATE videos SET status = 'processing', failure = NULL, version = version + 1, updated_at_ms = :now
         WHERE id = :id AND status = :from",
    )?
    .execute(named_params! {":id": video.id, ":from": video.status.as_str(), ":now": now})?;
    Ok(())
}

/// An attempt may outlive the trashing that stopped it and the restoring after that. The video then
/// waits for another job, which would find the rendition made and have nothing to publish.
fn demand_begun(video: &Video) -> Result<()> {
    match video.status {
        VideoStatus::Processing | VideoStatus::Ready => Ok(()),
        VideoStatus::Draft | VideoStatus::Uploaded | VideoStatus::Failed => Err(refuse(CatalogError::NotFound)),
    }
}

fn record_probe(db: &Connection, source: SourceId, info: &MediaInfo) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE sources SET container = :container, video_codec = :video, audio_codec = :audio, duration_ms = :duration,
            width = :width, height = :height
         WHERE id = :id",
    )?
    .execute(named_params! {
        ":id": source,
        ":container": info.container,
        ":video": info.video_codec,
        ":audio": info.audio_codec,
        ":duration": info.duration_ms.and_then(|ms| i64::try_from(ms).ok()),
        ":width": info.width,
        ":height": info.height,
    })
    .map(|_| ())
}

fn plan(db: &Connection, source: SourceId, planned: &PlannedRendition, now: Timestamp) -> rusqlite::Result<()> {
    // Unique (source_pk, name): an attempt before this one may have planned it.
    db.prepare_cached(
        "INSERT INTO renditions (id, source_pk, name, kind, status, width, height, created_at_ms)
         SELECT :id, pk, :name, :kind, 'planned', :width, :height, :now FROM sources WHERE id = :source
         ON CONFLICT (source_pk, name) DO NOTHING",
    )?
    .execute(named_params! {
        ":id": planned.id,
        ":source": source,
        ":name": planned.name,
        ":kind": planned.kind.as_str(),
        ":width": planned.width,
        ":height": planned.height,
        ":now": now,
    })
    .map(|_| ())
}

fn insert_prefix(db: &Connection, fence: Fence, video: VideoId, prefix: &str, now: Timestamp) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO prefixes (prefix, video_pk, job_id, token, created_at_ms)
         SELECT :prefix, pk, :job, :token, :now FROM videos WHERE id = :video
         ON CONFLICT (prefix) DO NOTHING",
    )?
    .execute(named_params! {
        ":prefix": prefix, ":video": video, ":job": fence.job, ":token": fence.token, ":now": now,
    })
    .map(|_| ())
}

/// Makes an object visible.
pub(crate) fn insert_object(
    db: &Connection,
    video: VideoId,
    object: &NewObject,
    now: Timestamp,
) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO objects (key, video_pk, size_bytes, sha256, content_type, created_at_ms)
         SELECT :key, pk, :size, :sha256, :content_type, :now FROM videos WHERE id = :video
         ON CONFLICT (key) DO NOTHING",
    )?
    .execute(named_params! {
        ":key": object.key,
        ":video": video,
        ":size": i64::try_from(object.size_bytes).unwrap_or(i64::MAX),
        ":sha256": object.sha256,
        ":content_type": object.content_type,
        ":now": now,
    })
    .map(|_| ())
}

fn find_rendition(db: &Connection, id: RenditionId) -> Result<Rendition> {
    db.prepare_cached(&format!("{RENDITION} WHERE r.id = :id"))?
        .query_row(named_params! {":id": id}, rendition_from)
        .optional()?
        .ok_or_else(|| refuse(CatalogError::NotFound))
}

fn set_ready(db: &Connection, command: &PublishRendition) -> rusqlite::Result<usize> {
    db.prepare_cached(
        "UPDATE renditions SET status = 'ready', bandwidth = :bandwidth, codecs = :codecs, failure = NULL,
            ready_at_ms = :now
         WHERE id = :id AND status = 'encoding' AND token = :token",
    )?
    .execute(named_params! {
        ":id": command.rendition,
        ":token": command.fence.token,
        ":bandwidth": command.bandwidth,
        ":codecs": command.codecs,
        ":now": command.now,
    })
}

/// The first rendition of a source: from here on the source is what is played, and shown. Segments and pictures are
/// kept for ever by whoever fetched them; what was played before under the same links takes these with it.
fn set_video_ready(db: &Connection, rendition: &Rendition, now: Timestamp) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE videos SET status = 'ready', playback_epoch = playback_epoch + (published_at_ms IS NOT NULL),
            published_at_ms = coalesce(published_at_ms, :now), playback_kind = :kind,
            version = version + 1, updated_at_ms = :now
         WHERE id = :id AND status IN ('processing', 'ready')",
    )?
    .execute(named_params! {":id": rendition.video, ":kind": rendition.kind.as_str(), ":now": now})?;
    show(db, rendition.video, rendition.source, now)
}

/// A source that was first processed by the simulated transcoder is played as HLS once it can be.
fn prefer_hls(db: &Connection, rendition: &Rendition, now: Timestamp) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE videos SET playback_kind = 'hls', version = version + 1, updated_at_ms = :now
         WHERE id = :id AND playback_kind = 'file' AND :kind = 'hls'",
    )?
    .execute(named_params! {":id": rendition.video, ":kind": rendition.kind.as_str(), ":now": now})
    .map(|_| ())
}

#[async_trait]
impl RenditionStore for SqliteStore {
    async fn current_source(&self, video: VideoId) -> Result<Option<Source>, StoreError> {
        self.read("read a source", move |db| Ok(current_source(db, video)?)).await
    }

    async fn renditions(&self, video: VideoId) -> Result<Vec<Rendition>, StoreError> {
        self.read("list renditions", move |db| Ok(renditions(db, video)?)).await
    }

    async fn playable_renditions(&self, video: VideoId) -> Result<Vec<Rendition>, StoreError> {
        self.read("list playable renditions", move |db| Ok(playable(db, video)?)).await
    }

    async fn source_facts(&self, source: SourceId) -> Result<Option<SourceFacts>, StoreError> {
        self.read("read what is known of a source", move |db| Ok(source_facts(db, source)?)).await
    }

    async fn start_processing(&self, fence: Fence, source: SourceId, now: Timestamp) -> Result<Source, CatalogError> {
        self.settlement("start the processing", Causes::none(), move |db, leased_now, _| {
            demand_held(db, fence, leased_now)?;
            let found = demand_current(db, source)?;
            start(db, &live_video(db, found.video)?, source, now)?;
            Ok(found)
        })
        .await
    }

    async fn plan_processing(
        &self,
        fence: Fence,
        source: SourceId,
        info: MediaInfo,
        planned: Vec<PlannedRendition>,
        now: Timestamp,
    ) -> Result<Vec<Rendition>, CatalogError> {
        self.settlement("plan the processing", Causes::none(), move |db, leased_now, _| {
            demand_held(db, fence, leased_now)?;
            let found = demand_current(db, source)?;
            let video = live_video(db, found.video)?;
            record_probe(db, source, &info)?;
            if is_shown(db, &video, source)? {
                show(db, video.id, source, now)?;
            }
            for rendition in &planned {
                plan(db, source, rendition, now)?;
            }
            Ok(renditions(db, found.video)?)
        })
        .await
    }

    async fn begin_rendition(
        &self,
        fence: Fence,
        rendition: RenditionId,
        prefix: String,
        now: Timestamp,
    ) -> Result<(), CatalogError> {
        self.settlement("begin a rendition", Causes::none(), move |db, leased_now, _| {
            demand_held(db, fence, leased_now)?;
            let found = find_rendition(db, rendition)?;
            if found.kind == RenditionKind::Hls {
                insert_prefix(db, fence, found.video, &prefix, now)?;
            }
            let rows = db
                .prepare_cached(
                    "UPDATE renditions SET status = 'encoding', token = :token, prefix = :prefix, failure = NULL
                     WHERE id = :id AND status IN ('planned', 'encoding', 'failed')",
                )?
                .execute(named_params! {":id": rendition, ":token": fence.token, ":prefix": prefix})?;
            if rows == 1 {
                Ok(())
            } else {
                Err(refuse(CatalogError::WrongState { status: found.status.as_str(), command: "be encoded" }))
            }
        })
        .await
    }

    async fn publish_rendition(&self, command: PublishRendition, causes: Causes) -> Result<(), CatalogError> {
        self.settlement("publish a rendition", causes, move |db, leased_now, effects| {
            demand_held(db, command.fence, leased_now)?;
            let rendition = find_rendition(db, command.rendition)?;
            demand_current(db, rendition.source)?;
            demand_begun(&live_video(db, rendition.video)?)?;
            let is_first = !has_ready_rendition(db, rendition.source)?;
            if set_ready(db, &command)? == 0 {
                return Err(refuse(CatalogError::Fenced));
            }
            for object in &command.objects {
                insert_object(db, rendition.video, object, command.now)?;
            }
            Ok(sparing_lists(db, rendition.video, effects, || match is_first {
                true => set_video_ready(db, &rendition, command.now),
                false => prefer_hls(db, &rendition, command.now),
            })?)
        })
        .await
    }

    async fn fail_rendition(&self, fence: Fence, rendition: RenditionId, reason: String) -> Result<(), CatalogError> {
        self.settlement("fail a rendition", Causes::none(), move |db, leased_now, _| {
            demand_held(db, fence, leased_now)?;
            db.prepare_cached(
                "UPDATE renditions SET status = 'failed', failure = :reason
                 WHERE id = :id AND status = 'encoding' AND token = :token",
            )?
            .execute(named_params! {":id": rendition, ":token": fence.token, ":reason": reason})?;
            Ok(())
        })
        .await
    }

    async fn begin_prefix(
        &self,
        fence: Fence,
        video: VideoId,
        prefix: String,
        now: Timestamp,
    ) -> Result<(), CatalogError> {
        self.settlement("begin an output prefix", Causes::none(), move |db, leased_now, _| {
            demand_held(db, fence, leased_now)?;
            Ok(insert_prefix(db, fence, video, &prefix, now)?)
        })
        .await
    }

    async fn ended_prefixes(&self, after: &str, limit: u16) -> Result<Vec<String>, StoreError> {
        let after = after.to_owned();
        self.read("find the prefixes of ended attempts", move |db| {
            // Primary key.
            let prefixes = db
                .prepare_cached(&format!(
                    "SELECT p.prefix FROM prefixes p WHERE p.prefix > :after AND NOT {RUNS} ORDER BY p.prefix LIMIT :limit"
                ))?
                .query_map(named_params! {":after": after, ":limit": limit}, |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            Ok(prefixes)
        })
        .await
    }

    async fn forget_prefixes(&self, prefixes: Vec<String>) -> Result<u64, StoreError> {
        self.command("forget prefixes", Causes::none(), move |db, _| {
            let mut gone = 0;
            for prefix in &prefixes {
                gone += db
                    .prepare_cached(&format!("DELETE FROM prefixes AS p WHERE p.prefix = :prefix AND NOT {RUNS}"))?
                    .execute(named_params! {":prefix": prefix})?;
            }
            Ok(gone as u64)
        })
        .await
        .map(Outcome::into_inner)
    }

    async fn publish_poster(
        &self,
        fence: Fence,
        source: SourceId,
        poster: NewObject,
        now: Timestamp,
        causes: Causes,
    ) -> Result<(), CatalogError> {
        self.settlement("publish a poster", causes, move |db, leased_now, effects| {
            demand_held(db, fence, leased_now)?;
            publish_picture(db, source, Picture::Poster, &[poster], now, effects)
        })
        .await
    }

    async fn publish_storyboard(
        &self,
        fence: Fence,
        source: SourceId,
        objects: Vec<NewObject>,
        now: Timestamp,
        causes: Causes,
    ) -> Result<(), CatalogError> {
        self.settlement("publish a storyboard", causes, move |db, leased_now, effects| {
            demand_held(db, fence, leased_now)?;
            publish_picture(db, source, Picture::Storyboard, &objects, now, effects)
        })
        .await
    }

    async fn settle_video(&self, command: SettleVideo, causes: Causes) -> Result<(), CatalogError> {
        self.settlement("settle a video", causes, move |db, leased_now, effects| {
            demand_held(db, command.fence, leased_now)?;
            Ok(sparing_lists(db, command.video, effects, || settle(db, &command))?)
        })
        .await
    }
}
