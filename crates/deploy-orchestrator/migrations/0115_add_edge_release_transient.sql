-- What keeps an edge from staging a release may pass, and says nothing of the release. Old code neither writes nor
-- reads it: to it every error is the release's.
ALTER TABLE edge_release ADD COLUMN IF NOT EXISTS transient boolean NOT NULL DEFAULT false;
