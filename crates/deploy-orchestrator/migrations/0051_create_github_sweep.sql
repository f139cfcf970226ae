-- What the sweep of GitHub's repositories remembers. New tables: old code does not see them.
CREATE TABLE IF NOT EXISTS github_repository (
    -- In lower case.
    repository text PRIMARY KEY,
    -- While a process sweeps it: when another may, should that one be lost.
    due_at     timestamptz NOT NULL,
    attempts   integer NOT NULL DEFAULT 0,
    -- What went wrong at the last try.
    note       text NOT NULL DEFAULT ''
);
-- Where a branch was when it was last looked at. One that no push told of yet is only remembered at the first look:
-- what was there before an environment followed it is no push.
CREATE TABLE IF NOT EXISTS github_branch (
    environment_id uuid NOT NULL REFERENCES environment,
    branch         text NOT NULL,
    commit         text NOT NULL,
    seen_at        timestamptz NOT NULL,
    PRIMARY KEY (environment_id, branch)
);
-- Deliveries that GitHub was asked to bring once more.
CREATE TABLE IF NOT EXISTS github_redelivery (
    repository text NOT NULL,
    -- The same for every try.
    guid       text NOT NULL,
    asked_at   timestamptz NOT NULL,
    times      integer NOT NULL,
    PRIMARY KEY (repository, guid)
);
CREATE INDEX IF NOT EXISTS github_redelivery_by_age ON github_redelivery (asked_at);
