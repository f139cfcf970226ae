-- Finds previews that have their age, site by site. Old code does not need it.
CREATE INDEX IF NOT EXISTS environment_preview_age ON environment (site_id, (COALESCE(pushed_at, created_at)))
    WHERE kind = 'preview' AND closed_at IS NULL;
