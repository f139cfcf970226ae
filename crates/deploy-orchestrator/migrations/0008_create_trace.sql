-- What the spans of deployments are made from, and how far they were sent. Old code writes none of it:
-- the attempts are kept by a trigger, so that no path that takes or leaves a claim can forget one.
CREATE TABLE IF NOT EXISTS step_attempt (
    step_id     uuid NOT NULL REFERENCES step,
    claim       bigint NOT NULL,
    owner       text NOT NULL,
    started_at  timestamptz NOT NULL,
    finished_at timestamptz,
    outcome     text CHECK (outcome IN ('done', 'failed', 'waits', 'error', 'lost', 'abandoned')),
    message     text NOT NULL DEFAULT '',
    span_id     text NOT NULL,
    PRIMARY KEY (step_id, claim),
    CONSTRAINT step_attempt_finished_whole CHECK ((finished_at IS NULL) = (outcome IS NULL))
);

CREATE OR REPLACE FUNCTION step_attempt_follow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state = 'running' THEN
        UPDATE step_attempt SET
            -- A lost worker was last heard of when its lease still held.
            finished_at = CASE WHEN NEW.state IN ('running', 'quarantined')
                               THEN least(OLD.lease_until, clock())
                               ELSE greatest(started_at, coalesce(NEW.finished_at, clock())) END,
            outcome = CASE
                WHEN NEW.state IN ('running', 'quarantined') THEN 'lost'
                WHEN NEW.state IN ('done', 'failed', 'abandoned') THEN NEW.state
                WHEN NEW.attempt > OLD.attempt THEN 'error'
                ELSE 'waits' END,
            message = NEW.message
        WHERE step_id = OLD.id AND claim = OLD.claim AND finished_at IS NULL;
    END IF;
    IF NEW.state = 'running' THEN
        INSERT INTO step_attempt (step_id, claim, owner, started_at, span_id)
        VALUES (NEW.id, NEW.claim, NEW.owner, clock(),
                left(md5(NEW.id::text || '/' || NEW.claim), 16));
    END IF;
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER step_attempt_follows AFTER UPDATE ON step FOR EACH ROW
WHEN ((OLD.state = 'running' OR NEW.state = 'running')
      AND (OLD.state, OLD.claim) IS DISTINCT FROM (NEW.state, NEW.claim))
EXECUTE FUNCTION step_attempt_follow();

-- Up to which moment the finished steps of a deployment that still acts were sent.
CREATE TABLE IF NOT EXISTS trace_progress (
    deployment_id uuid PRIMARY KEY REFERENCES deployment,
    upto          timestamptz NOT NULL
);

-- A deployment's trace was sent as a whole.
ALTER TABLE deployment ADD COLUMN IF NOT EXISTS traced boolean NOT NULL DEFAULT false;
CREATE INDEX IF NOT EXISTS deployment_untraced ON deployment (finished_at)
    WHERE finished_at IS NOT NULL AND NOT traced;

-- The one exporter.
CREATE TABLE IF NOT EXISTS trace_exporter (
    one         boolean PRIMARY KEY DEFAULT true CHECK (one),
    owner       text,
    lease_until timestamptz
);
INSERT INTO trace_exporter DEFAULT VALUES ON CONFLICT DO NOTHING;
