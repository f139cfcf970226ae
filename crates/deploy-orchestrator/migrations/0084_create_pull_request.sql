-- What is known of pull requests, by the newest delivery of each. New table: old code does not see it, and ignores their
-- deliveries.
CREATE TABLE IF NOT EXISTS pull_request (
    site_id        uuid NOT NULL REFERENCES site,
    number         integer NOT NULL,
    repository     text NOT NULL,
    -- Once it has a preview.
    environment_id uuid CONSTRAINT pull_request_environment_unique UNIQUE REFERENCES environment,
    is_open        boolean NOT NULL,
    head_commit    text NOT NULL,
    -- What the head was before, as far as the newest delivery says.
    before_commit  text NOT NULL,
    -- GitHub's clock, in seconds: it orders deliveries and is compared with nothing of ours.
    updated_at     bigint NOT NULL,
    PRIMARY KEY (site_id, number)
);
