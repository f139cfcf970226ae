-- Lists what was decided at a site, newest first. Old code does not need it.
CREATE INDEX IF NOT EXISTS trigger_by_site ON trigger (site_id, id DESC) WHERE site_id IS NOT NULL;
