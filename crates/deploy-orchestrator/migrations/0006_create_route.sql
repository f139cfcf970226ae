-- Routes, edges and their traffic. First release: there is no old code to see it.
CREATE TABLE IF NOT EXISTS route (
    host           text PRIMARY KEY,
    -- Null on a release's own address.
    environment_id uuid REFERENCES environment,
    site           text NOT NULL,
    environment    text NOT NULL,
    epoch          integer NOT NULL,
    version        bigint NOT NULL,
    -- Rises when traffic is sent back, so that sticky visitors go back too.
    generation     integer NOT NULL DEFAULT 0,
    -- [{"release": uuid, "manifest": hex, "weight": percent}]; empty when taken away.
    releases       jsonb NOT NULL,
    -- [{"release": uuid, "manifest": hex}], newest first.
    assets_of      jsonb NOT NULL DEFAULT '[]',
    rolling        boolean NOT NULL DEFAULT false,
    rolled_edges   text[] NOT NULL DEFAULT '{}',
    noindex        boolean NOT NULL,
    -- Found by snapshot, not by a high-water mark, which would skip rows that commit out of order.
    changed_in     xid8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX IF NOT EXISTS route_changed ON route (changed_in);
CREATE INDEX IF NOT EXISTS route_by_environment ON route (environment_id) WHERE environment_id IS NOT NULL;

CREATE TABLE IF NOT EXISTS edge (
    id             text PRIMARY KEY,
    boot           text NOT NULL,
    address        text NOT NULL,
    heard_at       timestamptz NOT NULL,
    -- Set once it applied every environment route that was current when its stream began.
    joined_at      timestamptz,
    failing_since  timestamptz,
    failing_reason text NOT NULL DEFAULT ''
);

CREATE TABLE IF NOT EXISTS edge_release (
    edge_id    text NOT NULL REFERENCES edge ON DELETE CASCADE,
    release_id uuid NOT NULL,
    staged     boolean NOT NULL,
    error      text NOT NULL DEFAULT '',
    at         timestamptz NOT NULL,
    PRIMARY KEY (edge_id, release_id)
);

CREATE TABLE IF NOT EXISTS edge_route (
    edge_id text NOT NULL REFERENCES edge ON DELETE CASCADE,
    host    text NOT NULL,
    epoch   integer NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (edge_id, host)
);
CREATE INDEX IF NOT EXISTS edge_route_by_host ON edge_route (host);

-- The newest cumulative counters of one boot of one edge; an older sample changes nothing.
CREATE TABLE IF NOT EXISTS traffic (
    host          text NOT NULL,
    release_id    uuid NOT NULL,
    edge_id       text NOT NULL,
    boot          text NOT NULL,
    seq           bigint NOT NULL,
    requests      bigint NOT NULL,
    server_errors bigint NOT NULL,
    lost_paths    bigint NOT NULL,
    client_errors bigint NOT NULL,
    latency       bigint[] NOT NULL,
    -- Requests per second between the last two samples.
    rate          double precision NOT NULL DEFAULT 0,
    at            timestamptz NOT NULL,
    PRIMARY KEY (host, release_id, edge_id, boot)
);
CREATE INDEX IF NOT EXISTS traffic_age ON traffic (at);
