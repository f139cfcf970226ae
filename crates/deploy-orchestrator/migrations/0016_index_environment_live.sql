-- The reconciler pages through what is live; previews never are.
CREATE INDEX IF NOT EXISTS environment_live ON environment (id) WHERE live_release_id IS NOT NULL;
