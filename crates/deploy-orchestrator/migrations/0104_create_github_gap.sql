-- What the sweep asked for in vain: a push that is missing before one that is known, where what was known before it is of
-- the repository that the site had then. It is asked for again in a day. New table: old code does not see it, and asks at
-- every sweep.
CREATE TABLE IF NOT EXISTS github_gap (
    environment_id uuid NOT NULL REFERENCES environment,
    branch         text NOT NULL,
    -- The one that no trigger knows.
    commit         text NOT NULL,
    -- Where it was asked for, in lower case.
    repository     text NOT NULL,
    asked_at       timestamptz NOT NULL,
    PRIMARY KEY (environment_id, branch, commit)
);
