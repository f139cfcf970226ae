-- The newest push to a branch, for the sweep. Old code does not need it.
CREATE INDEX IF NOT EXISTS trigger_by_branch ON trigger (environment_id, branch, pushed_at DESC NULLS LAST, id DESC)
    WHERE environment_id IS NOT NULL;
