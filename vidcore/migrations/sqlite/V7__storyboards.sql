-- What was found in a source and which pictures were made of it stand with the source: a video shows them once
-- the source is the one that is played.

ALTER TABLE sources ADD COLUMN width INTEGER;
ALTER TABLE sources ADD COLUMN height INTEGER;
ALTER TABLE sources ADD COLUMN poster_key TEXT;
-- The key of its WebVTT file; the sheets stand beside it.
ALTER TABLE sources ADD COLUMN storyboard_key TEXT;
ALTER TABLE videos ADD COLUMN storyboard_key TEXT;

-- Until now a video showed what was found last, which is of its current source once that was probed.
UPDATE sources SET (width, height, poster_key) = (
        SELECT v.width, v.height, v.poster_key FROM videos v WHERE v.pk = sources.video_pk)
    WHERE current = 1 AND container IS NOT NULL;
