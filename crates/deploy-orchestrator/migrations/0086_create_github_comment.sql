-- The comment at GitHub that shows a pull request's preview. New table: old code does not see it, and tells GitHub
-- nothing of previews.
CREATE TABLE IF NOT EXISTS github_comment (
    site_id    uuid NOT NULL,
    number     integer NOT NULL,
    repository text NOT NULL,
    -- GitHub's number of it.
    github_id  bigint,
    -- A call that makes it was begun, and nothing says that it did not work: it is looked for before the next.
    creating   boolean NOT NULL DEFAULT false,
    -- What it says: deployment, state and end of the preview in a few words.
    told       text NOT NULL DEFAULT '',
    -- Rises with every turn; what an earlier turn brings home is not written any more.
    claim      bigint NOT NULL DEFAULT 0,
    attempts   integer NOT NULL DEFAULT 0,
    retry_at   timestamptz NOT NULL,
    -- What went wrong at the last try.
    note       text NOT NULL DEFAULT '',
    -- Nothing more is said while the preview is closed.
    done_at    timestamptz,
    PRIMARY KEY (site_id, number),
    FOREIGN KEY (site_id, number) REFERENCES pull_request
);
CREATE INDEX IF NOT EXISTS github_comment_open ON github_comment (retry_at) WHERE done_at IS NULL;
-- Finds pull requests whose preview may need one.
CREATE INDEX IF NOT EXISTS pull_request_open ON pull_request (site_id, number)
    WHERE is_open AND environment_id IS NOT NULL;
