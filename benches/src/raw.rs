//! The raw twins of the catalog's reads and writes: the same SQL on one plain connection, called
//! directly, with no queue, no thread and no future in between.

use std::path::Path;

use rusqlite::types::Value;
use rusqlite::{Connection, Row, named_params};
use vidcore::id::VideoId;

use vidcore::store::sqlite::FILE_NAME;

/// The columns of a video, as the catalog selects them.
const SELECT: &str = "SELECT v.id, u.id AS owner_id, u.handle AS owner_handle, v.title, v.description, v.tags,
    v.visibility, v.status, v.version, v.failure, v.duration_ms, v.width, v.height, v.poster_key, v.storyboard_key,
    v.playback_kind, v.playback_epoch, v.views, v.created_at_ms, v.updated_at_ms, v.published_at_ms, v.deleted_at_ms, v.purge_at_ms
    FROM videos v JOIN users u ON u.pk = v.owner_pk";

const LISTED: &str = "v.visibility = 'public' AND v.published_at_ms IS NOT NULL AND v.deleted_at_ms IS NULL";

/// Columns of [`SELECT`].
const COLUMNS: usize = 23;

/// A row with every column copied out of SQLite, which any program that uses it has to do.
pub type VideoRow = [Value; COLUMNS];

/// Opens the database of the platform in `folder`, with the settings the platform gives its own
/// connections.
///
/// # Errors
/// SQLite's own.
pub fn open(folder: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(folder.join(FILE_NAME))?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(connection)
}

/// One video by its id.
///
/// # Errors
/// SQLite's own; no such row is one of them.
pub fn video(connection: &Connection, id: VideoId) -> rusqlite::Result<VideoRow> {
    connection
        .prepare_cached(&format!("{SELECT} WHERE v.id = :id"))?
        .query_row(named_params! {":id": &id.as_bytes()[..]}, columns)
}

/// The newest public videos.
///
/// # Errors
/// SQLite's own.
pub fn newest(connection: &Connection, limit: u16) -> rusqlite::Result<Vec<VideoRow>> {
    let sql = format!(
        "{SELECT} WHERE {LISTED} AND (v.published_at_ms, v.id) < (:sort, :after)
         ORDER BY v.published_at_ms DESC, v.id DESC LIMIT :limit"
    );
    connection
        .prepare_cached(&sql)?
        .query_map(named_params! {":sort": i64::MAX, ":after": &[0xff_u8; 16][..], ":limit": limit}, columns)?
        .collect()
}

/// The public videos that match an FTS5 expression best.
///
/// # Errors
/// SQLite's own.
pub fn search(connection: &Connection, expression: &str, limit: u16) -> rusqlite::Result<Vec<VideoRow>> {
    let sql = format!(
        "{SELECT} JOIN videos_fts f ON f.rowid = v.pk
         WHERE videos_fts MATCH :query AND {LISTED}
         ORDER BY bm25(videos_fts, 10.0, 1.0, 5.0), v.published_at_ms DESC, v.id DESC LIMIT :limit OFFSET :offset"
    );
    connection
        .prepare_cached(&sql)?
        .query_map(named_params! {":query": expression, ":limit": limit, ":offset": 0}, columns)?
        .collect()
}

/// The most viewed public videos behind the first `offset`, as a list without snapshots would read them.
///
/// # Errors
/// SQLite's own.
pub fn most_viewed(connection: &Connection, offset: u32, limit: u16) -> rusqlite::Result<Vec<VideoRow>> {
    let sql = format!("{SELECT} WHERE {LISTED} ORDER BY v.views DESC, v.id DESC LIMIT :limit OFFSET :offset");
    connection.prepare_cached(&sql)?.query_map(named_params! {":limit": limit, ":offset": offset}, columns)?.collect()
}

/// Adds one view in a commit of its own.
///
/// # Errors
/// SQLite's own.
pub fn count_view(connection: &Connection, id: VideoId) -> rusqlite::Result<usize> {
    connection
        .prepare_cached(
            "UPDATE videos SET views = views + 1
             WHERE id = :id AND visibility <> 'private' AND published_at_ms IS NOT NULL AND deleted_at_ms IS NULL",
        )?
        .execute(named_params! {":id": &id.as_bytes()[..]})
}

fn columns(row: &Row<'_>) -> rusqlite::Result<VideoRow> {
    let mut values = [const { Value::Null }; COLUMNS];
    for (index, value) in values.iter_mut().enumerate() {
        *value = row.get(index)?;
    }
    Ok(values)
}
