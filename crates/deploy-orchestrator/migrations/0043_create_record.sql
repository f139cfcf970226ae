-- What people did to environments, sites and everything; never collected. Old code does not write it:
-- what is done through an older replica is missing from the history.
CREATE TABLE IF NOT EXISTS record (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at             timestamptz NOT NULL,
    kind           text NOT NULL,
    by             text NOT NULL,
    reason         text NOT NULL,
    -- Null for everything.
    site_id        uuid REFERENCES site,
    -- Null for the whole site.
    environment_id uuid REFERENCES environment,
    release_id     uuid,
    deployment_id  uuid,
    stop_id        uuid,
    CONSTRAINT record_place_whole CHECK (environment_id IS NULL OR site_id IS NOT NULL)
);
CREATE INDEX IF NOT EXISTS record_by_environment ON record (environment_id, id DESC)
    WHERE environment_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS record_by_site ON record (site_id, id DESC)
    WHERE environment_id IS NULL AND site_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS record_of_everything ON record (id DESC) WHERE site_id IS NULL;
