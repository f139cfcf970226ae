-- What may still be asked of GitHub, of all replicas together. New table: old code does not see it, and each replica that runs
-- it counts for itself.
CREATE TABLE IF NOT EXISTS github_budget (
    -- `token`, `app`, or `installation` with its number.
    account       text PRIMARY KEY,
    -- Nothing is asked before; null until GitHub limits for the first time.
    free_at       timestamptz,
    -- The next turn to write; null until the first.
    next_write_at timestamptz,
    -- Limits in a row that did not say for how long.
    strikes       integer NOT NULL DEFAULT 0
);
