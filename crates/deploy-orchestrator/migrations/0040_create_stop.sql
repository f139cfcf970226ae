-- Stops of the line. Old code does not read them: while it runs, it grants what a newer replica keeps.
CREATE TABLE IF NOT EXISTS stop (
    id         uuid PRIMARY KEY,
    -- Null for everything.
    site_id    uuid REFERENCES site,
    -- What acts is paused before its next step; otherwise it is let through.
    pauses     boolean NOT NULL,
    reason     text NOT NULL,
    set_at     timestamptz NOT NULL,
    set_by     text NOT NULL,
    until      timestamptz NOT NULL,
    -- Lifted, or found to have ended by itself.
    ended_at   timestamptz,
    ended_by   text,
    end_reason text,
    CONSTRAINT stop_ended_whole CHECK (
        (ended_at IS NULL) = (ended_by IS NULL) AND (ended_at IS NULL) = (end_reason IS NULL))
);
-- One stands for a site, and one for everything.
CREATE UNIQUE INDEX IF NOT EXISTS stop_standing ON stop (site_id) NULLS NOT DISTINCT WHERE ended_at IS NULL;
CREATE INDEX IF NOT EXISTS stop_by_site ON stop (site_id, id DESC);
