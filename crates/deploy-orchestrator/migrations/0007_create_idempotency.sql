-- Answers to mutating calls, for the caller who repeats one. First release: there is no old code to see it.
CREATE TABLE IF NOT EXISTS idempotency (
    principal    text NOT NULL,
    method       text NOT NULL,
    key          text NOT NULL,
    request_hash bytea NOT NULL,
    response     bytea NOT NULL,
    created_at   timestamptz NOT NULL,
    PRIMARY KEY (principal, method, key)
);
CREATE INDEX IF NOT EXISTS idempotency_age ON idempotency (created_at);
