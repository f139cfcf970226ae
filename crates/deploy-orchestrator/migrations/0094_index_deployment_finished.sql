-- What ended lately is told to GitHub; without this every look read all deployments.
CREATE INDEX IF NOT EXISTS deployment_finished ON deployment (finished_at) WHERE finished_at IS NOT NULL;
