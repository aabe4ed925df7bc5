//! SQL of popularity: views by viewer, scores, rankings.

use rusqlite::{Connection, OptionalExtension, named_params};

use crate::catalog::popularity::score::Scores;
use crate::catalog::popularity::{
    NewView, RANKED, RANKING_FRESH, RANKING_KEPT, RankedVideos, RankingAt, RankingKind, VIEW_WINDOW, Window,
};
use crate::catalog::sqlite::{LISTED, SELECT, video_from};
use crate::clock::Timestamp;
use crate::id::VideoId;

/// Bytes of an id in a ranking.
const ID_LEN: usize = 16;

/// The most rankings that go when one is made: more than come, so that none is left for long.
const PRUNED_AT_ONCE: u16 = 16;

/// What the views of a batch add to one video.
struct Tally {
    pk: i64,
    published_at: Timestamp,
    scores: Scores,
    views: u32,
}

/// Counts views and says for each when its viewer's last counted view of the video is; `None` if the video
/// is not open. A video is read and written once, however many of the views are of it.
pub(in crate::catalog) fn count(db: &Connection, views: &[NewView]) -> rusqlite::Result<Vec<Option<Timestamp>>> {
    let mut order: Vec<usize> = (0..views.len()).collect();
    order.sort_by_key(|&index| (views[index].video, views[index].at));
    let mut last_counted = vec![None; views.len()];
    for group in order.chunk_by(|&a, &b| views[a].video == views[b].video) {
        let Some(mut tally) = open_video(db, views[group[0]].video)? else { continue };
        for &index in group {
            let view = &views[index];
            if note_viewer(db, tally.pk, view)? {
                tally.views += 1;
                tally.scores = tally.scores.viewed(view.at, tally.published_at);
                last_counted[index] = Some(view.at);
            } else {
                last_counted[index] = last_counted_at(db, tally.pk, view)?;
            }
        }
        if tally.views > 0 {
            write(db, &tally)?;
        }
    }
    Ok(last_counted)
}

fn open_video(db: &Connection, id: VideoId) -> rusqlite::Result<Option<Tally>> {
    db.prepare_cached(
        "SELECT pk, published_at_ms, score_day, score_week, score_trending FROM videos
         WHERE id = :id AND visibility <> 'private' AND published_at_ms IS NOT NULL AND deleted_at_ms IS NULL",
    )?
    .query_row(named_params! {":id": id}, |row| {
        let scores = Scores { day: row.get(2)?, week: row.get(3)?, trending: row.get(4)? };
        Ok(Tally { pk: row.get(0)?, published_at: row.get(1)?, scores, views: 0 })
    })
    .optional()
}

/// Whether the view counts: no other of its viewer was counted within the window. The distance goes both ways,
/// so that a clock that was ahead for a while does not keep a viewer from counting until it is there again.
fn note_viewer(db: &Connection, video_pk: i64, view: &NewView) -> rusqlite::Result<bool> {
    // Primary key (video_pk, viewer).
    let rows = db
        .prepare_cached(
            "INSERT INTO video_viewers (video_pk, viewer, counted_at_ms) VALUES (:video, :viewer, :at)
             ON CONFLICT (video_pk, viewer) DO UPDATE SET counted_at_ms = excluded.counted_at_ms
                WHERE abs(excluded.counted_at_ms - counted_at_ms) >= :window",
        )?
        .execute(named_params! {
            ":video": video_pk,
            ":viewer": &view.viewer.0[..],
            ":at": view.at,
            ":window": VIEW_WINDOW.as_millis() as i64,
        })?;
    Ok(rows == 1)
}

fn last_counted_at(db: &Connection, video_pk: i64, view: &NewView) -> rusqlite::Result<Option<Timestamp>> {
    db.prepare_cached("SELECT counted_at_ms FROM video_viewers WHERE video_pk = :video AND viewer = :viewer")?
        .query_row(named_params! {":video": video_pk, ":viewer": &view.viewer.0[..]}, |row| row.get(0))
        .optional()
}

fn write(db: &Connection, tally: &Tally) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE videos SET views = views + :views, score_day = :day, score_week = :week, score_trending = :trending
         WHERE pk = :pk",
    )?
    .execute(named_params! {
        ":pk": tally.pk,
        ":views": tally.views,
        ":day": tally.scores.day,
        ":week": tally.scores.week,
        ":trending": tally.scores.trending,
    })
    .map(|_| ())
}

/// Forgets viewers whose last counted view was at `before` or earlier.
pub(in crate::catalog) fn prune_viewers(db: &Connection, before: Timestamp, limit: u16) -> rusqlite::Result<u64> {
    // Index video_viewers_counted.
    let gone = db
        .prepare_cached(
            "DELETE FROM video_viewers WHERE (video_pk, viewer) IN (
                SELECT video_pk, viewer FROM video_viewers WHERE counted_at_ms <= :before
                ORDER BY counted_at_ms LIMIT :limit)",
        )?
        .execute(named_params! {":before": before, ":limit": limit})?;
    Ok(gone as u64)
}

/// The newest ranking of the kind, unless another one is due.
fn fresh(db: &Connection, kind: RankingKind, now: Timestamp) -> rusqlite::Result<Option<i64>> {
    // Index rankings_newest. One from the future is of a clock that was ahead.
    db.prepare_cached(
        "SELECT id FROM rankings WHERE id = (SELECT max(id) FROM rankings WHERE kind = :kind)
            AND built_at_ms > :since AND built_at_ms <= :now",
    )?
    .query_row(named_params! {":kind": kind.as_str(), ":since": now.minus(RANKING_FRESH), ":now": now}, |row| {
        row.get(0)
    })
    .optional()
}

/// Makes a ranking unless a fresh one is there, forgets old ones, and returns its id; `None` if there is
/// nothing to rank. An empty ranking is not kept: a first video would wait for its time to be over.
pub(in crate::catalog) fn build(db: &Connection, kind: RankingKind, now: Timestamp) -> rusqlite::Result<Option<i64>> {
    if let Some(id) = fresh(db, kind, now)? {
        return Ok(Some(id));
    }
    prune_rankings(db, now)?;
    let videos = best(db, kind)?;
    if videos.is_empty() {
        return Ok(None);
    }
    db.prepare_cached("INSERT INTO rankings (kind, built_at_ms, videos) VALUES (:kind, :now, :videos)")?
        .execute(named_params! {":kind": kind.as_str(), ":now": now, ":videos": videos})?;
    Ok(Some(db.last_insert_rowid()))
}

fn best(db: &Connection, kind: RankingKind) -> rusqlite::Result<Vec<u8>> {
    // Read in the order of the indexes videos_public_day, videos_public_week, videos_public_popular and
    // videos_public_trending, each row by itself.
    let score = match kind {
        RankingKind::Popular(Window::Day) => "v.score_day",
        RankingKind::Popular(Window::Week) => "v.score_week",
        RankingKind::Popular(Window::All) => "v.views",
        RankingKind::Trending => "v.score_trending",
    };
    let sql = format!("SELECT v.id FROM videos v WHERE {LISTED} ORDER BY {score} DESC, v.id DESC LIMIT :limit");
    let mut statement = db.prepare_cached(&sql)?;
    let mut rows = statement.query(named_params! {":limit": RANKED})?;
    let mut videos = Vec::with_capacity(usize::from(RANKED) * ID_LEN);
    while let Some(row) = rows.next()? {
        videos.extend_from_slice(row.get::<_, VideoId>(0)?.as_bytes());
    }
    Ok(videos)
}

fn prune_rankings(db: &Connection, now: Timestamp) -> rusqlite::Result<()> {
    // Index rankings_built.
    db.prepare_cached(
        "DELETE FROM rankings WHERE id IN (
            SELECT id FROM rankings WHERE built_at_ms <= :before ORDER BY built_at_ms LIMIT :limit)",
    )?
    .execute(named_params! {":before": now.minus(RANKING_KEPT), ":limit": PRUNED_AT_ONCE})
    .map(|_| ())
}

/// The places `from` to `from + limit` of a ranking; `None` if there is none of that kind, or its time is over.
pub(in crate::catalog) fn read(
    db: &Connection,
    kind: RankingKind,
    at: RankingAt,
    now: Timestamp,
    from: u32,
    limit: u16,
) -> rusqlite::Result<Option<RankedVideos>> {
    let snapshot = match at {
        RankingAt::Snapshot(id) => Some(id),
        RankingAt::Fresh => fresh(db, kind, now)?,
    };
    let Some(snapshot) = snapshot else { return Ok(None) };
    let Some((len, ids)) = places(db, kind, snapshot, now, from, limit)? else { return Ok(None) };
    // What was hidden since is left out, and its place stays empty: ranks never move.
    let mut listed = db.prepare_cached(&format!("{SELECT} WHERE v.id = :id AND {LISTED}"))?;
    let mut videos = Vec::with_capacity(limit.into());
    for id in ids.chunks_exact(ID_LEN) {
        videos.extend(listed.query_row(named_params! {":id": id}, video_from).optional()?);
    }
    Ok(Some(RankedVideos { snapshot, len, videos }))
}

/// How many places the ranking has, and the ids at those asked for.
fn places(
    db: &Connection,
    kind: RankingKind,
    snapshot: i64,
    now: Timestamp,
    from: u32,
    limit: u16,
) -> rusqlite::Result<Option<(u32, Vec<u8>)>> {
    let bytes = ID_LEN as i64;
    db.prepare_cached(
        "SELECT length(videos) / :bytes, substr(videos, :from * :bytes + 1, :limit * :bytes) FROM rankings
         WHERE id = :id AND kind = :kind AND built_at_ms > :since",
    )?
    .query_row(
        named_params! {
            ":id": snapshot,
            ":kind": kind.as_str(),
            ":since": now.minus(RANKING_KEPT),
            ":from": from,
            ":limit": limit,
            ":bytes": bytes,
        },
        |row| Ok((row.get(0)?, row.get(1)?)),
    )
    .optional()
}
