-- Since when a release that was begun from an unclean tree counts as its commit's. Null for all others. Old code neither
-- writes nor reads it, and numbers such a release's next event one lower.
ALTER TABLE release ADD COLUMN IF NOT EXISTS vouched_at timestamptz;
