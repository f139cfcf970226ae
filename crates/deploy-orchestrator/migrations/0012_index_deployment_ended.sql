-- Lists what ended in an environment in one way. Only ended rows: it costs a deployment one entry.
CREATE INDEX IF NOT EXISTS deployment_ended ON deployment (environment_id, state, id DESC)
    WHERE finished_at IS NOT NULL;
