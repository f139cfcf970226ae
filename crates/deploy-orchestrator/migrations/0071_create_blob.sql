-- How many releases name each blob. Old code neither reads nor writes it: while it runs, it seals
-- releases that are not counted here, and as long as there is one no blob is collected.
CREATE TABLE IF NOT EXISTS blob (
    digest        bytea PRIMARY KEY CHECK (length(digest) = 32),
    size          bigint NOT NULL,
    names         integer NOT NULL CHECK (names >= 0),
    -- Since when nothing names it; collected a day later.
    unnamed_since timestamptz,
    CONSTRAINT blob_unnamed_whole CHECK ((names = 0) = (unnamed_since IS NOT NULL))
);
CREATE INDEX IF NOT EXISTS blob_unnamed ON blob (unnamed_since) WHERE unnamed_since IS NOT NULL;
