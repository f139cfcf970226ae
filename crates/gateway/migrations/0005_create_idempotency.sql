-- Answers kept for repeats. Without an answer the response was secret: a repeat is told what exists.
-- New table: old code does not see it.
CREATE TABLE IF NOT EXISTS idempotency (
    principal text NOT NULL,
    method text NOT NULL,
    key text NOT NULL,
    request_hash bytea NOT NULL,
    response bytea,
    made text NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (principal, method, key)
);
CREATE INDEX IF NOT EXISTS idempotency_by_age ON idempotency (created_at);
