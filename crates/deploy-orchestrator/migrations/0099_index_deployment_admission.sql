-- Finds what succeeded in an environment, newest first by admission, and the rollbacks that left a release: what a
-- rollback chooses by. Old code does not need them.
CREATE INDEX IF NOT EXISTS deployment_succeeded ON deployment (environment_id, admission DESC)
    WHERE state = 'succeeded';
CREATE INDEX IF NOT EXISTS deployment_left ON deployment (environment_id, leaves_release_id, admission DESC)
    WHERE kind = 'rollback';
