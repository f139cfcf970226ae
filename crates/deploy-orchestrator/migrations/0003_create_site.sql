-- Sites, environments and their lanes. First release: there is no old code to see it.
CREATE TABLE IF NOT EXISTS site (
    id         uuid PRIMARY KEY,
    slug       text NOT NULL CONSTRAINT site_slug_unique UNIQUE,
    name       text NOT NULL,
    repository text NOT NULL,
    created_at timestamptz NOT NULL,
    created_by text NOT NULL
);

CREATE TABLE IF NOT EXISTS environment (
    id                    uuid PRIMARY KEY,
    site_id               uuid NOT NULL REFERENCES site,
    slug                  text NOT NULL,
    kind                  text NOT NULL CHECK (kind IN ('standard', 'preview')),
    policy                jsonb NOT NULL,
    live_release_id       uuid,
    live_deployment_id    uuid,
    live_since            timestamptz,
    hold_since            timestamptz,
    hold_by               text,
    hold_reason           text,
    hold_deployment_id    uuid,
    not_restorable        text NOT NULL DEFAULT '',
    restorable_checked_at timestamptz,
    version               integer NOT NULL DEFAULT 1,
    created_at            timestamptz NOT NULL,
    created_by            text NOT NULL,
    CONSTRAINT environment_slug_unique UNIQUE (site_id, slug),
    CONSTRAINT environment_hold_whole CHECK (
        (hold_since IS NULL) = (hold_by IS NULL) AND (hold_since IS NULL) = (hold_reason IS NULL)),
    CONSTRAINT environment_live_whole CHECK ((live_release_id IS NULL) = (live_since IS NULL))
);

-- Host names of an environment's own; unique over the platform.
CREATE TABLE IF NOT EXISTS environment_host (
    host           text CONSTRAINT environment_host_unique PRIMARY KEY,
    environment_id uuid NOT NULL REFERENCES environment
);
CREATE INDEX IF NOT EXISTS environment_host_by_environment ON environment_host (environment_id);

-- The single-writer queue of an environment. Its row lock is the first lock of every command.
CREATE TABLE IF NOT EXISTS lane (
    environment_id     uuid PRIMARY KEY REFERENCES environment,
    -- Rises with every grant, cancel and preemption; an act under an older one is refused.
    fence              bigint NOT NULL DEFAULT 0,
    -- Acting deployments in a row that were superseded before their pivot; at three the next counts as pinned.
    superseded_in_row  integer NOT NULL DEFAULT 0
);
