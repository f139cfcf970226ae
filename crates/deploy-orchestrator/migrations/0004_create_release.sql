-- Releases and the commits they were built from. First release: there is no old code to see it.
CREATE TABLE IF NOT EXISTS release (
    id              uuid PRIMARY KEY,
    site_id         uuid NOT NULL REFERENCES site,
    manifest_digest bytea NOT NULL CHECK (length(manifest_digest) = 32),
    manifest_size   integer NOT NULL,
    state           text NOT NULL CHECK (state IN ('draft', 'sealed')),
    -- Empty for content without a commit.
    commit          text NOT NULL,
    message         text NOT NULL,
    author          text NOT NULL,
    author_email    text NOT NULL,
    committed_at    timestamptz,
    dirty           boolean NOT NULL,
    file_count      integer NOT NULL DEFAULT 0,
    byte_count      bigint NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL,
    created_by      text NOT NULL,
    sealed_at       timestamptz,
    CONSTRAINT release_unique UNIQUE (site_id, manifest_digest, commit),
    CONSTRAINT release_sealed_whole CHECK ((state = 'sealed') = (sealed_at IS NOT NULL))
);
CREATE INDEX IF NOT EXISTS release_by_site ON release (site_id, id DESC);
CREATE INDEX IF NOT EXISTS release_by_commit ON release (site_id, commit, id DESC) WHERE commit <> '';

CREATE TABLE IF NOT EXISTS release_branch (
    release_id uuid NOT NULL REFERENCES release,
    branch     text NOT NULL,
    added_at   timestamptz NOT NULL,
    PRIMARY KEY (release_id, branch)
);

-- Ancestry of commits, as callers sent it: nearest first, at most 1,000, parents among them.
CREATE TABLE IF NOT EXISTS commit_ancestry (
    site_id   uuid NOT NULL REFERENCES site,
    commit    text NOT NULL,
    parents   text[] NOT NULL,
    ancestors text[] NOT NULL,
    PRIMARY KEY (site_id, commit)
);

-- A release that hurt an environment; cleared by a person. Rows stay as the record.
CREATE TABLE IF NOT EXISTS rejection (
    environment_id uuid NOT NULL REFERENCES environment,
    release_id     uuid NOT NULL REFERENCES release,
    at             timestamptz NOT NULL,
    reason         text NOT NULL,
    deployment_id  uuid NOT NULL,
    cleared_at     timestamptz,
    cleared_by     text,
    clear_reason   text,
    PRIMARY KEY (environment_id, release_id, at)
);
CREATE INDEX IF NOT EXISTS rejection_standing ON rejection (release_id) WHERE cleared_at IS NULL;
