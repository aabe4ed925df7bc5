-- Invalidations for other processes, and idempotency records.

CREATE TABLE changes (
    -- AUTOINCREMENT: an id is never reused, so a reader's position stays valid after pruning.
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    topic TEXT NOT NULL,
    key TEXT NOT NULL,
    at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX changes_at ON changes (at_ms);

CREATE TABLE idempotency (
    scope TEXT NOT NULL,
    key TEXT NOT NULL,
    fingerprint BLOB NOT NULL CHECK (length(fingerprint) = 32),
    -- The command's result as JSON.
    result BLOB NOT NULL,
    -- Secret parts of the answer, sealed by the service.
    sealed BLOB,
    expires_at_ms INTEGER NOT NULL,
    PRIMARY KEY (scope, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_expiry ON idempotency (expires_at_ms);
