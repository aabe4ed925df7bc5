-- Uploads whose parts clients put into the bucket themselves.
-- The table is made anew: SQLite cannot loosen a constraint of an old one. Its segments would go with it.

CREATE TEMP TABLE kept_segments AS SELECT upload_pk, seq, key, size_bytes FROM upload_segments;
DROP TABLE upload_segments;

CREATE TABLE uploads_new (
    pk INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    -- Parts belong to no video until they are joined.
    video_pk INTEGER REFERENCES videos (pk),
    user_pk INTEGER NOT NULL REFERENCES users (pk),
    kind TEXT NOT NULL CHECK (kind IN ('whole', 'resumable', 'part', 'joined', 'multipart')),
    status TEXT NOT NULL
        CHECK (status IN ('open', 'verifying', 'complete', 'rejected', 'expired', 'aborted', 'used')),
    -- What counts against the quota: the declared length or, while that is deferred, what has come.
    size_bytes INTEGER NOT NULL CHECK (size_bytes >= 0),
    length_deferred INTEGER NOT NULL DEFAULT 0 CHECK (length_deferred IN (0, 1)),
    offset_bytes INTEGER NOT NULL DEFAULT 0 CHECK (offset_bytes BETWEEN 0 AND size_bytes),
    declared_sha256 BLOB CHECK (length(declared_sha256) = 32),
    staged_key TEXT,
    received_sha256 BLOB CHECK (length(received_sha256) = 32),
    -- What of SHA-256 goes on at offset_bytes.
    hash_state BLOB,
    -- Who may move the offset; NULL when the last one ended in order.
    writer BLOB CHECK (length(writer) = 16),
    -- What the client said, word for word.
    metadata TEXT,
    concatenation TEXT,
    used_by_pk INTEGER REFERENCES uploads_new (pk) ON DELETE CASCADE,
    -- Parts that clients put into the bucket themselves: their size, and the bucket's id for them once there is one.
    part_size_bytes INTEGER CHECK (part_size_bytes > 0),
    bucket_upload TEXT,
    -- 1 once the original it became is no longer kept: it takes up nothing any more.
    released INTEGER NOT NULL DEFAULT 0 CHECK (released IN (0, 1)),
    reason TEXT,
    created_at_ms INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    CHECK (size_bytes > 0 OR length_deferred),
    CHECK (kind = 'part' OR video_pk IS NOT NULL),
    CHECK (kind IN ('resumable', 'part') OR NOT length_deferred),
    CHECK (staged_key IS NULL OR received_sha256 IS NOT NULL),
    CHECK (kind <> 'whole' OR status <> 'verifying' OR staged_key IS NOT NULL),
    CHECK (kind <> 'resumable' OR status <> 'verifying' OR offset_bytes = size_bytes),
    CHECK ((kind = 'multipart') = (part_size_bytes IS NOT NULL)),
    CHECK (bucket_upload IS NULL OR kind = 'multipart'),
    CHECK (kind <> 'multipart' OR status NOT IN ('verifying', 'complete') OR bucket_upload IS NOT NULL),
    CHECK ((status = 'used') = (used_by_pk IS NOT NULL))
) STRICT;

INSERT INTO uploads_new (pk, id, video_pk, user_pk, kind, status, size_bytes, length_deferred, offset_bytes,
    declared_sha256, staged_key, received_sha256, hash_state, writer, metadata, concatenation, used_by_pk, reason,
    created_at_ms, updated_at_ms, expires_at_ms)
SELECT pk, id, video_pk, user_pk, kind, status, size_bytes, length_deferred, offset_bytes,
    declared_sha256, staged_key, received_sha256, hash_state, writer, metadata, concatenation, used_by_pk, reason,
    created_at_ms, updated_at_ms, expires_at_ms FROM uploads ORDER BY used_by_pk IS NOT NULL;

UPDATE uploads_new SET released = 1
WHERE id IN (SELECT upload_id FROM sources WHERE dropped_at_ms IS NOT NULL);

DROP TABLE uploads;
ALTER TABLE uploads_new RENAME TO uploads;

CREATE INDEX uploads_video ON uploads (video_pk);
CREATE INDEX uploads_video_open ON uploads (video_pk, expires_at_ms) WHERE status = 'open';
CREATE INDEX uploads_expiry ON uploads (expires_at_ms) WHERE status = 'open';
CREATE INDEX uploads_used_by ON uploads (used_by_pk) WHERE used_by_pk IS NOT NULL;
-- Quota: what a user has reserved and stored is a sum over this index alone.
CREATE INDEX uploads_user_quota ON uploads (user_pk, status, expires_at_ms, size_bytes)
    WHERE status IN ('open', 'verifying', 'complete') AND released = 0;

-- What the collection of unfinished parts asks for.
CREATE INDEX uploads_bucket ON uploads (bucket_upload) WHERE bucket_upload IS NOT NULL;

-- The staged objects that make up an upload, in order. A joined upload lists those of its parts.
CREATE TABLE upload_segments (
    upload_pk INTEGER NOT NULL REFERENCES uploads (pk) ON DELETE CASCADE,
    seq INTEGER NOT NULL CHECK (seq >= 0),
    key TEXT NOT NULL,
    size_bytes INTEGER NOT NULL CHECK (size_bytes > 0),
    PRIMARY KEY (upload_pk, seq)
) STRICT, WITHOUT ROWID;

INSERT INTO upload_segments (upload_pk, seq, key, size_bytes)
SELECT upload_pk, seq, key, size_bytes FROM kept_segments;
DROP TABLE kept_segments;
