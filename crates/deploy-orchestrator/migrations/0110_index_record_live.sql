-- Finds when a release was last live in an environment, and what came after it: a rollback tells it. Old code does not
-- need it.
CREATE INDEX IF NOT EXISTS record_live ON record (environment_id, id) WHERE kind = 'live';
