-- Accounts and refresh sessions.

CREATE TABLE users (
    pk INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    -- Trimmed and lower case.
    email TEXT NOT NULL UNIQUE,
    handle TEXT NOT NULL UNIQUE,
    display_name TEXT NOT NULL,
    -- argon2id, PHC string format.
    password_hash TEXT NOT NULL,
    role TEXT NOT NULL DEFAULT 'user' CHECK (role IN ('user', 'moderator', 'admin')),
    -- Raised to kill every older access token.
    auth_epoch INTEGER NOT NULL DEFAULT 0,
    version INTEGER NOT NULL DEFAULT 1,
    created_at_ms INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX users_oldest ON users (created_at_ms, id);

-- A refresh family: one sign-in on one device. Live until it is revoked or its newest token expires.
CREATE TABLE sessions (
    pk INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    user_pk INTEGER NOT NULL REFERENCES users (pk),
    created_at_ms INTEGER NOT NULL,
    -- That of its newest token.
    expires_at_ms INTEGER NOT NULL,
    revoked_at_ms INTEGER,
    revoke_reason TEXT CHECK (revoke_reason IN ('logout', 'logout_all', 'reuse')),
    CHECK ((revoked_at_ms IS NULL) = (revoke_reason IS NULL))
) STRICT;
CREATE INDEX sessions_user ON sessions (user_pk);
CREATE INDEX sessions_expiry ON sessions (expires_at_ms);

CREATE TABLE refresh_tokens (
    pk INTEGER PRIMARY KEY,
    session_pk INTEGER NOT NULL REFERENCES sessions (pk) ON DELETE CASCADE,
    -- SHA-256: the token itself is stored nowhere.
    hash BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
    expires_at_ms INTEGER NOT NULL,
    consumed_at_ms INTEGER,
    successor_hash BLOB CHECK (length(successor_hash) = 32),
    -- The successor, sealed under a key derived from this token; gone once the successor is consumed.
    successor_sealed BLOB,
    CHECK ((consumed_at_ms IS NULL) = (successor_hash IS NULL)),
    CHECK (successor_sealed IS NULL OR consumed_at_ms IS NOT NULL)
) STRICT;
CREATE INDEX refresh_tokens_session ON refresh_tokens (session_pk);
CREATE INDEX refresh_tokens_expiry ON refresh_tokens (expires_at_ms);
-- At most one row per session.
CREATE INDEX refresh_tokens_sealed ON refresh_tokens (successor_hash) WHERE successor_sealed IS NOT NULL;
