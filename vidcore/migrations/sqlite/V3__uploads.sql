-- Uploads on their way to becoming a source.

CREATE TABLE uploads (
    pk INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    video_pk INTEGER NOT NULL REFERENCES videos (pk),
    user_pk INTEGER NOT NULL REFERENCES users (pk),
    status TEXT NOT NULL
        CHECK (status IN ('open', 'verifying', 'complete', 'rejected', 'expired', 'aborted')),
    size_bytes INTEGER NOT NULL CHECK (size_bytes > 0),
    declared_sha256 BLOB CHECK (length(declared_sha256) = 32),
    staged_key TEXT,
    received_sha256 BLOB CHECK (length(received_sha256) = 32),
    reason TEXT,
    created_at_ms INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    CHECK ((staged_key IS NULL) = (received_sha256 IS NULL)),
    CHECK (status <> 'verifying' OR staged_key IS NOT NULL)
) STRICT;

CREATE INDEX uploads_video_open ON uploads (video_pk, expires_at_ms) WHERE status = 'open';
CREATE INDEX uploads_expiry ON uploads (expires_at_ms) WHERE status = 'open';
-- Quota: what a user has reserved and stored is a sum over this index alone.
CREATE INDEX uploads_user_quota ON uploads (user_pk, status, expires_at_ms, size_bytes)
    WHERE status IN ('open', 'verifying', 'complete');
