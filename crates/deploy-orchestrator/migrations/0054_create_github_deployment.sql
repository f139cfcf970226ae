-- What GitHub is told of deployments that triggers made. New table: old code does not see it, and tells GitHub nothing.
CREATE TABLE IF NOT EXISTS github_deployment (
    deployment_id uuid PRIMARY KEY REFERENCES deployment,
    repository    text NOT NULL,
    commit        text NOT NULL,
    -- GitHub's number of it.
    github_id     bigint,
    -- A call that makes it was begun, and nothing says that it did not work: it is looked for before the next.
    creating      boolean NOT NULL DEFAULT false,
    -- The state that GitHub has, and the one that a call was begun for.
    told          text NOT NULL DEFAULT '',
    telling       text NOT NULL DEFAULT '',
    -- Rises with every turn; what an earlier turn brings home is not written any more.
    claim         bigint NOT NULL DEFAULT 0,
    attempts      integer NOT NULL DEFAULT 0,
    retry_at      timestamptz NOT NULL,
    -- What went wrong at the last try.
    note          text NOT NULL DEFAULT '',
    -- Nothing more is said of it.
    done_at       timestamptz
);
CREATE INDEX IF NOT EXISTS github_deployment_open ON github_deployment (retry_at) WHERE done_at IS NULL;
