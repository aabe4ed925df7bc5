-- The engine: whose turn it is, delayed jobs apart from due ones, paused queues, groups, schedules.

-- 1 once the job's time has come. Claims look at due jobs alone, so that a million delayed ones cost them nothing.
ALTER TABLE jobs ADD COLUMN due INTEGER NOT NULL DEFAULT 0 CHECK (due IN (0, 1));
-- The group whose last job to end writes the group's next one; NULL once this job was counted as ended.
ALTER TABLE jobs ADD COLUMN group_id BLOB CHECK (length(group_id) = 16);

DROP INDEX jobs_due;
DROP INDEX jobs_run_at;
DROP INDEX jobs_any_due;
DROP INDEX jobs_counted;
-- Jobs of nobody, or about no video, are on no such list.
DROP INDEX jobs_owner;
DROP INDEX jobs_video;
CREATE INDEX jobs_owner ON jobs (owner_id, created_at_ms DESC, id DESC) WHERE owner_id IS NOT NULL;
CREATE INDEX jobs_video ON jobs (video_id, created_at_ms DESC, id DESC) WHERE video_id IS NOT NULL;
-- One owner's best due job. The owner is NULL for jobs of nobody.
CREATE INDEX jobs_next ON jobs (queue, owner_id, rank_ms) WHERE state = 'queued' AND due = 1;
-- Delayed jobs whose time has come (due = 0), and the oldest of those that wait (due = 1).
CREATE INDEX jobs_waiting ON jobs (queue, due, run_at_ms) WHERE state = 'queued';
CREATE INDEX jobs_dead ON jobs (queue, finished_at_ms) WHERE state = 'dead';
-- What is kept for a while after its end.
CREATE INDEX jobs_ended ON jobs (state, finished_at_ms) WHERE finished_at_ms IS NOT NULL;
CREATE INDEX jobs_group ON jobs (group_id) WHERE group_id IS NOT NULL;

-- Whose turn it is in each queue: kept by the triggers below, whatever statement moves a job.
CREATE TABLE job_owners (
    queue TEXT NOT NULL,
    -- Empty for jobs of nobody.
    owner_id BLOB NOT NULL CHECK (length(owner_id) IN (0, 16)),
    -- Jobs that are queued and due.
    ready INTEGER NOT NULL CHECK (ready >= 0),
    -- Jobs that are leased.
    running INTEGER NOT NULL CHECK (running >= 0),
    -- The token of the owner's last claim, or of the last claim of all when the owner began to wait: who
    -- waits longest goes first, and however many come after, nobody waits for ever.
    turn INTEGER NOT NULL,
    UNIQUE (queue, owner_id)
) STRICT;
-- Of one turn, who came first goes first: the index ends with the rowid.
CREATE INDEX job_owners_next ON job_owners (queue, running, turn) WHERE ready > 0;

CREATE TRIGGER jobs_owner_insert AFTER INSERT ON jobs WHEN new.due = 1 AND new.state = 'queued' BEGIN
    INSERT INTO job_owners (queue, owner_id, ready, running, turn)
    VALUES (new.queue, coalesce(new.owner_id, x''), 1, 0,
        (SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'job_attempts'))
    ON CONFLICT (queue, owner_id) DO UPDATE SET
        turn = iif(ready = 0, max(turn, excluded.turn), turn), ready = ready + 1;
END;
CREATE TRIGGER jobs_owner_ready AFTER UPDATE OF state, due ON jobs
WHEN new.state = 'queued' AND new.due = 1 AND (old.state <> 'queued' OR old.due = 0) BEGIN
    INSERT INTO job_owners (queue, owner_id, ready, running, turn)
    VALUES (new.queue, coalesce(new.owner_id, x''), 1, 0,
        (SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'job_attempts'))
    ON CONFLICT (queue, owner_id) DO UPDATE SET
        turn = iif(ready = 0, max(turn, excluded.turn), turn), ready = ready + 1,
        running = running - (old.state = 'leased');
END;
CREATE TRIGGER jobs_owner_claimed AFTER UPDATE OF state ON jobs
WHEN old.state = 'queued' AND new.state = 'leased' BEGIN
    UPDATE job_owners SET ready = ready - old.due, running = running + 1, turn = new.token
    WHERE queue = new.queue AND owner_id = coalesce(new.owner_id, x'');
END;
CREATE TRIGGER jobs_owner_left AFTER UPDATE OF state ON jobs
WHEN (old.state = 'leased' AND NOT (new.state = 'queued' AND new.due = 1) AND new.state <> 'leased')
    OR (old.state = 'queued' AND old.due = 1 AND new.state NOT IN ('queued', 'leased')) BEGIN
    UPDATE job_owners SET ready = ready - (old.state = 'queued'), running = running - (old.state = 'leased')
    WHERE queue = new.queue AND owner_id = coalesce(new.owner_id, x'');
END;

-- Jobs from before: the first claim finds which are due.
INSERT INTO job_owners (queue, owner_id, ready, running, turn)
    SELECT queue, coalesce(owner_id, x''), 0, count(*), max(token) FROM jobs WHERE state = 'leased'
    GROUP BY queue, coalesce(owner_id, x'');

CREATE TABLE paused_queues (
    queue TEXT PRIMARY KEY,
    since_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE job_groups (
    id BLOB PRIMARY KEY CHECK (length(id) = 16),
    -- Jobs of the group that have not ended.
    remaining INTEGER NOT NULL CHECK (remaining >= 0),
    -- The job that is written when none remains, as JSON.
    next_job TEXT NOT NULL CHECK (json_valid(next_job)),
    created_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE job_schedules (
    name TEXT PRIMARY KEY,
    -- The last moment of the schedule for which a job was written, or before which it was first seen.
    last_slot_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
