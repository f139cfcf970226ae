-- When a preview was closed, by whom and why; whose pull request it is of; when it was pushed to last. Old code neither
-- writes nor reads these: it takes a closed preview for an open one, so upgrade all orchestrators before a site gives
-- pull requests previews.
ALTER TABLE environment
    ADD COLUMN IF NOT EXISTS closed_at timestamptz,
    ADD COLUMN IF NOT EXISTS closed_by text NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS close_reason text NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS pull_request integer,
    ADD COLUMN IF NOT EXISTS pushed_at timestamptz;
-- The same beside the fence: whoever locks the lane sees it.
ALTER TABLE lane ADD COLUMN IF NOT EXISTS closed boolean NOT NULL DEFAULT false;
