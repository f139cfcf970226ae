-- Deliveries of webhooks that the gateway told us of, until their bodies are read and decided. New table: old code does
-- not see it.
CREATE TABLE IF NOT EXISTS delivery (
    -- The gateway's.
    id          uuid PRIMARY KEY,
    -- The sender's word: `push`.
    event       text NOT NULL,
    received_at timestamptz NOT NULL,
    attempts    integer NOT NULL DEFAULT 0,
    retry_at    timestamptz NOT NULL,
    done_at     timestamptz,
    -- What became of it as a whole, or what went wrong at the last try.
    note        text NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS delivery_due ON delivery (retry_at) WHERE done_at IS NULL;
CREATE INDEX IF NOT EXISTS delivery_by_age ON delivery (done_at) WHERE done_at IS NOT NULL;
