-- Finds the releases of a commit on whatever site, for who asks what became of it everywhere. Old code does not need it.
CREATE INDEX IF NOT EXISTS release_of_commit ON release (commit) WHERE commit <> '';
