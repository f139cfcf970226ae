-- What of a release is counted, and whether its content is gone. Old code does not read it: it shows a
-- collected release as a sealed one, and deploys it until its edges miss the content.
ALTER TABLE release
    -- When it last named its blobs in `blob`; null when it is not counted there.
    ADD COLUMN IF NOT EXISTS named_at timestamptz,
    -- When to look again whether its content may go.
    ADD COLUMN IF NOT EXISTS collect_due_at timestamptz NOT NULL DEFAULT '-infinity',
    ADD COLUMN IF NOT EXISTS collected_at timestamptz,
    -- How often it was begun again after that.
    ADD COLUMN IF NOT EXISTS revivals integer NOT NULL DEFAULT 0;
