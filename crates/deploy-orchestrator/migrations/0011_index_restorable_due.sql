-- Finds the environment whose proof is due. Old code does not see it.
CREATE INDEX IF NOT EXISTS environment_restorable_due ON environment (restorable_due_at NULLS FIRST)
    WHERE live_release_id IS NOT NULL;
