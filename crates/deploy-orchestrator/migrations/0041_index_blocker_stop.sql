-- Finds what waits for a stop of the line. Only standing ones: few rows. Old code does not see it.
CREATE INDEX IF NOT EXISTS blocker_stop ON blocker (deployment_id) WHERE kind = 'stop' AND cleared_at IS NULL;
