-- Who pinned a deployment, when and why. Old code reads `pinned` alone, keeps these, and pins by itself
-- without them.
ALTER TABLE deployment
    ADD COLUMN IF NOT EXISTS pinned_at timestamptz,
    ADD COLUMN IF NOT EXISTS pinned_by text NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS pin_reason text NOT NULL DEFAULT '';
