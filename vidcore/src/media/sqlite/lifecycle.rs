//! SQL of what is given up.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, named_params};

use super::{Result, playable, renditions};
use crate::catalog::CatalogError;
use crate::catalog::sqlite::{find_owned, sparing_lists};
use crate::clock::Timestamp;
use crate::id::{SourceId, VideoId};
use crate::media::lifecycle::{DropRendition, LifecycleStore};
use crate::media::{Rendition, RenditionKind};
use crate::store::sqlite::{SqliteStore, refuse};
use crate::store::{Causes, Outcome, StoreError};

/// Whether nobody needs the original of the source `s`, of the video `v`, that came before `:before`. A `file`
/// rendition is the original itself; live jobs may want to read it.
const IS_IDLE: &str = "s.dropped_at_ms IS NULL AND s.created_at_ms <= :before
    AND v.status = 'ready' AND v.deleted_at_ms IS NULL
    AND NOT EXISTS (SELECT 1 FROM renditions r WHERE r.source_pk = s.pk
        AND (r.status IN ('planned', 'encoding') OR (r.status = 'ready' AND r.kind = 'file')))
    AND EXISTS (SELECT 1 FROM renditions r JOIN sources played ON played.pk = r.source_pk
        WHERE played.video_pk = s.video_pk AND played.pk >= s.pk AND r.status = 'ready')
    AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.video_id = v.id AND j.queue IN ('video', 'media')
        AND j.state IN ('queued', 'leased'))";

fn find_idle(db: &Connection, before: Timestamp, limit: u16) -> rusqlite::Result<Vec<SourceId>> {
    // Index sources_kept.
    db.prepare_cached(&format!(
        "SELECT s.id FROM sources s JOIN videos v ON v.pk = s.video_pk WHERE {IS_IDLE}
         ORDER BY s.created_at_ms, s.pk LIMIT :limit"
    ))?
    .query_map(named_params! {":before": before, ":limit": limit}, |row| row.get(0))?
    .collect()
}

fn drop_original(
    db: &Connection,
    source: SourceId,
    before: Timestamp,
    now: Timestamp,
) -> rusqlite::Result<Option<String>> {
    let key: Option<String> = db
        .prepare_cached(&format!(
            "UPDATE sources SET dropped_at_ms = :now WHERE id = :source AND pk IN (
                SELECT s.pk FROM sources s JOIN videos v ON v.pk = s.video_pk WHERE s.id = :source AND {IS_IDLE})
             RETURNING object_key"
        ))?
        .query_row(named_params! {":source": source, ":before": before, ":now": now}, |row| row.get(0))
        .optional()?;
    if let Some(key) = &key {
        db.prepare_cached(
            "UPDATE uploads SET released = 1 WHERE id = (SELECT upload_id FROM sources WHERE id = :source)",
        )?
        .execute(named_params! {":source": source})?;
        db.prepare_cached("DELETE FROM objects WHERE key = :key")?.execute(named_params! {":key": key})?;
    }
    Ok(key)
}

/// The rendition, if others of its source play on without it.
fn find_dispensable(db: &Connection, command: &DropRendition) -> Result<Rendition> {
    let mut played = playable(db, command.video)?;
    let Some(at) = played.iter().position(|row| row.name == command.name) else {
        let unmade = renditions(db, command.video)?.into_iter().find(|row| row.name == command.name);
        return Err(refuse(unmade.map_or(CatalogError::NotFound, |row| CatalogError::WrongState {
            status: row.status.as_str(),
            command: "be deleted",
        })));
    };
    if played.len() == 1 {
        return Err(refuse(CatalogError::LastRendition));
    }
    Ok(played.swap_remove(at))
}

fn delete(db: &Connection, rendition: &Rendition) -> rusqlite::Result<Option<String>> {
    db.prepare_cached("DELETE FROM renditions WHERE id = :id AND status = 'ready'")?
        .execute(named_params! {":id": rendition.id})?;
    let own = rendition.prefix.clone().filter(|_| rendition.kind == RenditionKind::Hls);
    if let Some(prefix) = &own {
        // Primary key; `0` is what follows `/`.
        db.prepare_cached("DELETE FROM objects WHERE key > :prefix || '/' AND key < :prefix || '0'")?
            .execute(named_params! {":prefix": prefix})?;
    }
    Ok(own)
}

fn set_playback_kind(db: &Connection, video: VideoId, now: Timestamp) -> rusqlite::Result<()> {
    let is_hls = playable(db, video)?.iter().any(|row| row.kind == RenditionKind::Hls);
    db.prepare_cached(
        "UPDATE videos SET playback_kind = :kind, version = version + 1, updated_at_ms = :now WHERE id = :id",
    )?
    .execute(named_params! {":id": video, ":kind": if is_hls { "hls" } else { "file" }, ":now": now})
    .map(|_| ())
}

#[async_trait]
impl LifecycleStore for SqliteStore {
    async fn idle_originals(&self, before: Timestamp, limit: u16) -> Result<Vec<SourceId>, StoreError> {
        self.read("find originals that nobody needs", move |db| Ok(find_idle(db, before, limit)?)).await
    }

    async fn drop_original(&self, source: SourceId, before: Timestamp) -> Result<Option<String>, StoreError> {
        self.command("drop an original", Causes::none(), move |db, now| Ok(drop_original(db, source, before, now)?))
            .await
            .map(Outcome::into_inner)
    }

    async fn drop_rendition(&self, command: DropRendition, causes: Causes) -> Result<Option<String>, CatalogError> {
        self.command_with("delete a rendition", causes, move |db, _, effects| {
            find_owned(db, command.video, command.owner, false)?;
            let rendition = find_dispensable(db, &command)?;
            Ok(sparing_lists(db, command.video, effects, || {
                let own = delete(db, &rendition)?;
                set_playback_kind(db, command.video, command.now)?;
                Ok(own)
            })?)
        })
        .await
        .map(Outcome::into_inner)
    }
}
