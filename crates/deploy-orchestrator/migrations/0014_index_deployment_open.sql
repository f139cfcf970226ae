-- Lists what has not ended on a site; stays small.
CREATE INDEX IF NOT EXISTS deployment_open ON deployment (site_id, id DESC) WHERE finished_at IS NULL;
