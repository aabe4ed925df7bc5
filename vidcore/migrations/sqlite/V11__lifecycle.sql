-- Originals that are not kept.

-- When the original was dropped: its object is gone, what was made of it stays.
ALTER TABLE sources ADD COLUMN dropped_at_ms INTEGER;
CREATE INDEX sources_kept ON sources (created_at_ms, pk) WHERE dropped_at_ms IS NULL;
