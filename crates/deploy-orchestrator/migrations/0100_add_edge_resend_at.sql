-- When it was last wanted that an edge is sent again what it lacks: the stream that has the edge sees it. Old code neither
-- writes nor reads it.
ALTER TABLE edge ADD COLUMN IF NOT EXISTS resend_at timestamptz;
-- The reconciler pages through what serves something, also where nothing is live.
CREATE INDEX IF NOT EXISTS route_serving ON route (environment_id)
    WHERE environment_id IS NOT NULL AND releases <> '[]';
