-- Releases that may go nowhere; lifted by a person. Rows stay as the record. Old code does not read it:
-- while it runs, it deploys what a newer replica refuses.
CREATE TABLE IF NOT EXISTS ban (
    release_id   uuid NOT NULL REFERENCES release,
    at           timestamptz NOT NULL,
    by           text NOT NULL,
    reason       text NOT NULL,
    cleared_at   timestamptz,
    cleared_by   text,
    clear_reason text,
    PRIMARY KEY (release_id, at)
);
CREATE UNIQUE INDEX IF NOT EXISTS ban_standing ON ban (release_id) WHERE cleared_at IS NULL;
