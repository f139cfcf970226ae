-- Lists what ended on a site in one way. Only ended rows: it costs a deployment one entry.
CREATE INDEX IF NOT EXISTS deployment_ended_by_site ON deployment (site_id, state, id DESC)
    WHERE finished_at IS NOT NULL;
