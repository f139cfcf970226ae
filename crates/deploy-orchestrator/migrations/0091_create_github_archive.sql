-- Releases whose content is still to be fetched from GitHub's archive of their commit. New table: old code does not see it,
-- and what waits for such content waits on.
CREATE TABLE IF NOT EXISTS github_archive (
    release_id uuid PRIMARY KEY REFERENCES release,
    -- Rises with every turn; what an earlier turn brings home is not written any more.
    claim      bigint NOT NULL DEFAULT 0,
    attempts   integer NOT NULL DEFAULT 0,
    -- While a process fetches it: when another may, should that one be lost.
    retry_at   timestamptz NOT NULL,
    -- What went wrong at the last try.
    note       text NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS github_archive_due ON github_archive (retry_at);
