-- Since when what an edge or a fetch found says that a release's content in the store is not what its
-- manifest names; null once it was read again and is. Old code neither sets nor reads it.
ALTER TABLE release ADD COLUMN IF NOT EXISTS suspect_since timestamptz;
