-- One comment at GitHub for each pull request of a repository, whichever sites give it previews; and what GitHub refuses is
-- counted apart from what failed on its way: only the former is given up. Old code sees neither: while it runs it keeps a
-- comment for each site in github_comment, so a pull request may get one of either kind, and it gives up as before.
CREATE TABLE IF NOT EXISTS github_pull_comment (
    -- In lower case: GitHub knows it by any.
    repository text NOT NULL,
    number     integer NOT NULL,
    -- GitHub's number of it.
    github_id  bigint,
    -- A call that makes it was begun, and nothing says that it did not work: it is looked for before the next.
    creating   boolean NOT NULL DEFAULT false,
    -- What it says: of each preview site, deployment and state.
    told       text NOT NULL DEFAULT '',
    -- Rises with every turn; what an earlier turn brings home is not written any more.
    claim      bigint NOT NULL DEFAULT 0,
    attempts   integer NOT NULL DEFAULT 0,
    -- Tries that GitHub refused since it was last told.
    refusals   integer NOT NULL DEFAULT 0,
    retry_at   timestamptz NOT NULL,
    -- What went wrong at the last try.
    note       text NOT NULL DEFAULT '',
    -- Nothing more is said: all previews are closed, or it is given up.
    done_at    timestamptz,
    -- GitHub refuses it, or somebody deleted it.
    given_up   boolean NOT NULL DEFAULT false,
    PRIMARY KEY (repository, number),
    CONSTRAINT github_pull_comment_given_up_whole CHECK (done_at IS NOT NULL OR NOT given_up)
);
CREATE INDEX IF NOT EXISTS github_pull_comment_open ON github_pull_comment (retry_at) WHERE done_at IS NULL;
-- Finds what the sites of a repository know of a pull request.
CREATE INDEX IF NOT EXISTS pull_request_by_repository ON pull_request (lower(repository), number);
-- Of several comments the oldest goes on. One that is not known yet may be made by old code: it is looked for.
INSERT INTO github_pull_comment (repository, number, github_id, creating, retry_at, note, done_at, given_up)
    SELECT DISTINCT ON (lower(repository), number) lower(repository), number, github_id, github_id IS NULL,
           retry_at, note, done_at, done_at IS NOT NULL AND note <> ''
    FROM github_comment
    ORDER BY lower(repository), number, github_id, done_at NULLS FIRST
    ON CONFLICT DO NOTHING;
ALTER TABLE github_deployment ADD COLUMN IF NOT EXISTS refusals integer NOT NULL DEFAULT 0;
