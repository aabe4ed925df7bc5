-- Popularity: views by viewer, scores that fade without being touched, and rankings that stand still.

-- Log2 of the sum of 2^((viewed at − 2026-01-01) / half-life) over all views; NULL before the first one.
ALTER TABLE videos ADD COLUMN score_day REAL;
ALTER TABLE videos ADD COLUMN score_week REAL;
ALTER TABLE videos ADD COLUMN score_trending REAL;

-- As videos_public_popular, which is the ranking over all time. NULL is the lowest.
CREATE INDEX videos_public_day ON videos (score_day DESC, id DESC)
    WHERE visibility = 'public' AND published_at_ms IS NOT NULL AND deleted_at_ms IS NULL;
CREATE INDEX videos_public_week ON videos (score_week DESC, id DESC)
    WHERE visibility = 'public' AND published_at_ms IS NOT NULL AND deleted_at_ms IS NULL;
CREATE INDEX videos_public_trending ON videos (score_trending DESC, id DESC)
    WHERE visibility = 'public' AND published_at_ms IS NOT NULL AND deleted_at_ms IS NULL;

-- Whose view of a video was counted, while another one of theirs would not be.
CREATE TABLE video_viewers (
    video_pk INTEGER NOT NULL REFERENCES videos (pk),
    -- A keyed hash of the account or the network: no address is kept.
    viewer BLOB NOT NULL CHECK (length(viewer) = 16),
    counted_at_ms INTEGER NOT NULL,
    PRIMARY KEY (video_pk, viewer)
) STRICT, WITHOUT ROWID;
CREATE INDEX video_viewers_counted ON video_viewers (counted_at_ms);

CREATE TABLE rankings (
    -- AUTOINCREMENT: an id is never reused, so a cursor never leads into another list.
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL CHECK (kind IN ('popular_day', 'popular_week', 'popular_all', 'trending')),
    built_at_ms INTEGER NOT NULL,
    -- Ids of videos, 16 bytes each, best first: at least one, at most 1,000.
    videos BLOB NOT NULL CHECK (length(videos) BETWEEN 16 AND 16000 AND length(videos) % 16 = 0)
) STRICT;
CREATE INDEX rankings_newest ON rankings (kind, id);
CREATE INDEX rankings_built ON rankings (built_at_ms);

-- Nobody knows when the views from before came: they count as if they had come evenly since the video was
-- published. SQLite has no logarithm here: between two powers of two it is taken as a straight line, which is
-- at most 0.09 off and keeps the order.
CREATE TABLE powers (exponent INTEGER NOT NULL, power REAL PRIMARY KEY) STRICT, WITHOUT ROWID;
INSERT INTO powers (exponent, power)
    WITH RECURSIVE p (exponent, power) AS (SELECT 0, 1.0 UNION ALL SELECT exponent + 1, power * 2 FROM p LIMIT 63)
    SELECT exponent, power FROM p;

-- Half-lives of 8, 56 and 6 hours; of a steady stream, 1.44 half-lives' worth is what has not faded.
UPDATE videos SET
    score_day = (m.now_ms - 1767225600000) / 28800000.0 + m.views_log2
        - (SELECT exponent + m.age_ms / 41550244.0 / power - 1 FROM powers
            WHERE power <= max(1.0, m.age_ms / 41550244.0) ORDER BY power DESC LIMIT 1) * (m.age_ms > 41550244),
    score_week = (m.now_ms - 1767225600000) / 201600000.0 + m.views_log2
        - (SELECT exponent + m.age_ms / 290851706.0 / power - 1 FROM powers
            WHERE power <= max(1.0, m.age_ms / 290851706.0) ORDER BY power DESC LIMIT 1) * (m.age_ms > 290851706),
    score_trending = (m.now_ms - 1767225600000) / 21600000.0 + m.views_log2
        - (SELECT exponent + m.age_ms / 31162683.0 / power - 1 FROM powers
            WHERE power <= max(1.0, m.age_ms / 31162683.0) ORDER BY power DESC LIMIT 1) * (m.age_ms > 31162683)
        -- What is older has to be watched more.
        - (SELECT exponent + (1 + m.age_ms / 86400000.0) / power - 1 FROM powers
            WHERE power <= 1 + m.age_ms / 86400000.0 ORDER BY power DESC LIMIT 1)
FROM (
    SELECT v.pk, t.now_ms, max(0, t.now_ms - v.published_at_ms) AS age_ms,
        (SELECT exponent + v.views / power - 1 FROM powers WHERE power <= v.views ORDER BY power DESC LIMIT 1)
            AS views_log2
    FROM videos v, (SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER) AS now_ms) t
    WHERE v.views > 0 AND v.published_at_ms IS NOT NULL
) m
WHERE videos.pk = m.pk;

DROP TABLE powers;
