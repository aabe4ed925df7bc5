-- Background jobs and their attempts.

CREATE TABLE jobs (
    pk INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    queue TEXT NOT NULL,
    kind TEXT NOT NULL,
    payload TEXT NOT NULL CHECK (json_valid(payload)),
    state TEXT NOT NULL CHECK (state IN ('queued', 'leased', 'done', 'dead', 'cancelled')),
    priority INTEGER NOT NULL CHECK (priority BETWEEN -10 AND 10),
    -- run_at_ms less a minute for each step of priority: lower goes first.
    rank_ms INTEGER NOT NULL,
    run_at_ms INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0 CHECK (attempts BETWEEN 0 AND max_attempts),
    max_attempts INTEGER NOT NULL CHECK (max_attempts >= 1),
    token INTEGER,
    lease_until_ms INTEGER,
    unique_key TEXT,
    owner_id BLOB CHECK (length(owner_id) = 16),
    video_id BLOB CHECK (length(video_id) = 16),
    -- The follow-up job as JSON, written as a job when this one dies or is cancelled.
    on_dead TEXT CHECK (json_valid(on_dead)),
    progress INTEGER NOT NULL DEFAULT 0 CHECK (progress BETWEEN 0 AND 1000),
    last_error TEXT,
    death TEXT CHECK (death IN ('permanent', 'exhausted', 'lost')),
    cancel_requested INTEGER NOT NULL DEFAULT 0 CHECK (cancel_requested IN (0, 1)),
    created_at_ms INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL,
    finished_at_ms INTEGER,
    CHECK ((state = 'leased') = (lease_until_ms IS NOT NULL)),
    CHECK (state <> 'leased' OR token IS NOT NULL),
    CHECK ((state = 'dead') = (death IS NOT NULL)),
    CHECK ((state IN ('done', 'dead', 'cancelled')) = (finished_at_ms IS NOT NULL))
) STRICT;

CREATE UNIQUE INDEX jobs_unique_live ON jobs (unique_key)
    WHERE unique_key IS NOT NULL AND state IN ('queued', 'leased');
CREATE INDEX jobs_due ON jobs (queue, rank_ms, pk) WHERE state = 'queued';
CREATE INDEX jobs_run_at ON jobs (queue, run_at_ms) WHERE state = 'queued';
CREATE INDEX jobs_any_due ON jobs (run_at_ms) WHERE state = 'queued';
CREATE INDEX jobs_leases ON jobs (lease_until_ms) WHERE state = 'leased';
CREATE INDEX jobs_video ON jobs (video_id, created_at_ms DESC, id DESC);
CREATE INDEX jobs_owner ON jobs (owner_id, created_at_ms DESC, id DESC);
CREATE INDEX jobs_newest ON jobs (created_at_ms DESC, id DESC);

-- Figures: how many jobs wait, run and are dead, without a look at those that ended well.
CREATE INDEX jobs_counted ON jobs (queue, state) WHERE state IN ('queued', 'leased', 'dead');

-- The primary key is the token: AUTOINCREMENT never hands a number out twice.
CREATE TABLE job_attempts (
    token INTEGER PRIMARY KEY AUTOINCREMENT,
    job_pk INTEGER NOT NULL REFERENCES jobs (pk) ON DELETE CASCADE,
    worker TEXT NOT NULL,
    started_at_ms INTEGER NOT NULL,
    ended_at_ms INTEGER,
    outcome TEXT CHECK (outcome IN ('done', 'failed', 'lost', 'released', 'cancelled')),
    error TEXT,
    CHECK ((ended_at_ms IS NULL) = (outcome IS NULL))
) STRICT;
CREATE INDEX job_attempts_job ON job_attempts (job_pk);
