-- What GitHub says of two commits that nothing else relates. New table: old code does not see it, and orders such
-- commits by admission.
CREATE TABLE IF NOT EXISTS comparison (
    site_id    uuid NOT NULL REFERENCES site,
    -- The lesser of the two as texts.
    one        text NOT NULL,
    other      text NOT NULL,
    created_at timestamptz NOT NULL,
    attempts   integer NOT NULL DEFAULT 0,
    retry_at   timestamptz NOT NULL,
    -- How `other` stands to `one`; none until GitHub has said so.
    relation   text CHECK (relation IN ('ahead', 'behind', 'diverged', 'identical')),
    -- What went wrong at the last try.
    note       text NOT NULL DEFAULT '',
    PRIMARY KEY (site_id, one, other),
    CONSTRAINT comparison_ordered CHECK (one COLLATE "C" < other COLLATE "C")
);
CREATE INDEX IF NOT EXISTS comparison_due ON comparison (retry_at) WHERE relation IS NULL;
