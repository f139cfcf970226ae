-- One delivery × one site environment, and what became of it. New table: old code does not see it.
CREATE TABLE IF NOT EXISTS trigger (
    id             uuid PRIMARY KEY,
    -- The gateway's; it is forgotten long before this row.
    delivery_id    uuid NOT NULL,
    -- As the sender wrote it.
    repository     text NOT NULL,
    -- Of a branch or a tag; without `refs/heads/`.
    branch         text NOT NULL,
    commit         text NOT NULL,
    before_commit  text NOT NULL,
    -- The sender's clock, in seconds: it tells one push from another and is compared with nothing of ours.
    pushed_at      bigint,
    sender         text NOT NULL,
    -- None when no site has the repository.
    site_id        uuid REFERENCES site,
    -- None when it concerns no environment of the site.
    environment_id uuid REFERENCES environment,
    outcome        text NOT NULL CHECK (outcome IN ('created', 'superseded', 'ignored')),
    -- A stable word; empty for `created`.
    reason         text NOT NULL,
    message        text NOT NULL,
    -- The deployment that it made or joined, or the one that has a newer commit. Its row is written after this one.
    deployment_id  uuid REFERENCES deployment DEFERRABLE INITIALLY DEFERRED,
    received_at    timestamptz NOT NULL,
    created_at     timestamptz NOT NULL,
    -- While its deployment waits for content: until when.
    content_until  timestamptz,
    -- A call with the same commit joined its deployment, so that the two are one.
    joined_at      timestamptz,
    CONSTRAINT trigger_once UNIQUE NULLS NOT DISTINCT (delivery_id, site_id, environment_id),
    CONSTRAINT trigger_created_whole CHECK (outcome <> 'created' OR deployment_id IS NOT NULL),
    CONSTRAINT trigger_environment_of_site CHECK (environment_id IS NULL OR site_id IS NOT NULL)
);
CREATE INDEX IF NOT EXISTS trigger_by_commit ON trigger (commit, id DESC) WHERE commit <> '';
CREATE INDEX IF NOT EXISTS trigger_by_environment ON trigger (environment_id, commit, id DESC) WHERE environment_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS trigger_by_deployment ON trigger (deployment_id) WHERE outcome = 'created';
CREATE INDEX IF NOT EXISTS trigger_waiting_for_content ON trigger (content_until) WHERE content_until IS NOT NULL;
