-- Videos, their sources and renditions, the objects these are made of, and full-text search.

CREATE TABLE videos (
    pk INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    owner_pk INTEGER NOT NULL REFERENCES users (pk),
    title TEXT NOT NULL,
    description TEXT NOT NULL,
    -- A JSON array of strings.
    tags TEXT NOT NULL CHECK (json_valid(tags)),
    visibility TEXT NOT NULL CHECK (visibility IN ('public', 'unlisted', 'private')),
    status TEXT NOT NULL CHECK (status IN ('draft', 'uploaded', 'processing', 'ready', 'failed')),
    version INTEGER NOT NULL DEFAULT 1,
    failure TEXT,
    duration_ms INTEGER,
    width INTEGER,
    height INTEGER,
    poster_key TEXT,
    -- How it is played, once it is.
    playback_kind TEXT CHECK (playback_kind IN ('hls', 'file')),
    playback_epoch INTEGER NOT NULL DEFAULT 0,
    views INTEGER NOT NULL DEFAULT 0,
    created_at_ms INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL,
    -- Set when the first rendition becomes ready: from then on the video is playable.
    published_at_ms INTEGER,
    deleted_at_ms INTEGER,
    purge_at_ms INTEGER,
    CHECK ((deleted_at_ms IS NULL) = (purge_at_ms IS NULL)),
    CHECK ((playback_kind IS NULL) = (published_at_ms IS NULL)),
    CHECK (status <> 'ready' OR published_at_ms IS NOT NULL)
) STRICT;

-- Public lists: newest, and most viewed. Both hold listed videos alone.
CREATE INDEX videos_public_newest ON videos (published_at_ms DESC, id DESC)
    WHERE visibility = 'public' AND published_at_ms IS NOT NULL AND deleted_at_ms IS NULL;
CREATE INDEX videos_public_popular ON videos (views DESC, id DESC)
    WHERE visibility = 'public' AND published_at_ms IS NOT NULL AND deleted_at_ms IS NULL;
-- One owner's videos: all, those listed, those in the trash.
CREATE INDEX videos_owner_newest ON videos (owner_pk, created_at_ms DESC, id DESC) WHERE deleted_at_ms IS NULL;
CREATE INDEX videos_owner_public ON videos (owner_pk, published_at_ms DESC, id DESC)
    WHERE visibility = 'public' AND published_at_ms IS NOT NULL AND deleted_at_ms IS NULL;
CREATE INDEX videos_owner_trash ON videos (owner_pk, created_at_ms DESC, id DESC) WHERE deleted_at_ms IS NOT NULL;

CREATE VIRTUAL TABLE videos_fts USING fts5 (
    title, description, tags,
    content = 'videos', content_rowid = 'pk',
    tokenize = 'unicode61 remove_diacritics 2', prefix = '2 3'
);
CREATE TRIGGER videos_fts_insert AFTER INSERT ON videos BEGIN
    INSERT INTO videos_fts (rowid, title, description, tags) VALUES (new.pk, new.title, new.description, new.tags);
END;
CREATE TRIGGER videos_fts_delete AFTER DELETE ON videos BEGIN
    INSERT INTO videos_fts (videos_fts, rowid, title, description, tags)
    VALUES ('delete', old.pk, old.title, old.description, old.tags);
END;
CREATE TRIGGER videos_fts_update AFTER UPDATE OF title, description, tags ON videos BEGIN
    INSERT INTO videos_fts (videos_fts, rowid, title, description, tags)
    VALUES ('delete', old.pk, old.title, old.description, old.tags);
    INSERT INTO videos_fts (rowid, title, description, tags) VALUES (new.pk, new.title, new.description, new.tags);
END;

CREATE TABLE sources (
    pk INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    video_pk INTEGER NOT NULL REFERENCES videos (pk),
    upload_id BLOB NOT NULL UNIQUE CHECK (length(upload_id) = 16),
    object_key TEXT NOT NULL UNIQUE,
    size_bytes INTEGER NOT NULL CHECK (size_bytes > 0),
    sha256 BLOB NOT NULL CHECK (length(sha256) = 32),
    content_type TEXT NOT NULL,
    current INTEGER NOT NULL CHECK (current IN (0, 1)),
    container TEXT,
    video_codec TEXT,
    audio_codec TEXT,
    duration_ms INTEGER,
    created_at_ms INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX sources_one_current ON sources (video_pk) WHERE current = 1;
CREATE INDEX sources_video ON sources (video_pk);

CREATE TABLE renditions (
    pk INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    source_pk INTEGER NOT NULL REFERENCES sources (pk),
    name TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('hls', 'file')),
    status TEXT NOT NULL CHECK (status IN ('planned', 'encoding', 'ready', 'failed')),
    -- The attempt that makes it, or made it.
    token INTEGER,
    prefix TEXT,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    bandwidth INTEGER,
    codecs TEXT,
    failure TEXT,
    created_at_ms INTEGER NOT NULL,
    ready_at_ms INTEGER,
    UNIQUE (source_pk, name),
    CHECK (status NOT IN ('encoding', 'ready') OR (token IS NOT NULL AND prefix IS NOT NULL)),
    CHECK ((status = 'ready') = (ready_at_ms IS NOT NULL))
) STRICT;

-- Where attempts put objects. A row is written before the first object under the prefix.
CREATE TABLE prefixes (
    prefix TEXT PRIMARY KEY,
    video_pk INTEGER NOT NULL REFERENCES videos (pk),
    job_id BLOB NOT NULL CHECK (length(job_id) = 16),
    token INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX prefixes_video ON prefixes (video_pk);

-- Visible objects. Content type, size and hash live here, never in attributes of the object store.
CREATE TABLE objects (
    key TEXT PRIMARY KEY,
    video_pk INTEGER NOT NULL REFERENCES videos (pk),
    size_bytes INTEGER NOT NULL CHECK (size_bytes >= 0),
    sha256 BLOB NOT NULL CHECK (length(sha256) = 32),
    content_type TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX objects_video ON objects (video_pk);
