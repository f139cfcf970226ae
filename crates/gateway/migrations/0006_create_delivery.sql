-- Webhook deliveries as they came, kept for 30 days. New table: old code does not see it.
CREATE TABLE IF NOT EXISTS delivery (
    id          uuid PRIMARY KEY,
    source      text NOT NULL,
    -- The sender's own id; a repeat has the same.
    source_id   text NOT NULL,
    event       text NOT NULL,
    -- The signature covers the body alone, so whoever sends an old body under a new id sends nothing new.
    body_hash   bytea NOT NULL,
    body        bytea NOT NULL,
    received_at timestamptz NOT NULL,
    CONSTRAINT delivery_source_known CHECK (source IN ('github')),
    CONSTRAINT delivery_hash_is_sha256 CHECK (octet_length(body_hash) = 32),
    CONSTRAINT delivery_source_id_unique UNIQUE (source, source_id),
    CONSTRAINT delivery_body_unique UNIQUE (source, body_hash)
);
-- Signed JSON that is fetched once: compressed it would only cost the commit that answers.
ALTER TABLE delivery ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE INDEX IF NOT EXISTS delivery_by_age ON delivery (received_at, id);
