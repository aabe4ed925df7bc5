-- Purging the trash.

-- 1 once its purge has begun: it cannot be restored any more, and its objects go before its rows.
ALTER TABLE videos ADD COLUMN purging INTEGER NOT NULL DEFAULT 0
    CHECK (purging = 0 OR (purging = 1 AND deleted_at_ms IS NOT NULL));
CREATE INDEX videos_purge ON videos (purge_at_ms) WHERE purge_at_ms IS NOT NULL;
-- All uploads of a video: they go with it.
CREATE INDEX uploads_video ON uploads (video_pk);
-- Whose a key is that is not recorded as an object: damage, but not garbage.
CREATE INDEX renditions_ready_prefix ON renditions (prefix) WHERE status = 'ready';
CREATE INDEX sources_poster ON sources (poster_key) WHERE poster_key IS NOT NULL;
CREATE INDEX sources_storyboard ON sources (storyboard_key) WHERE storyboard_key IS NOT NULL;
