-- When an environment's releases are to be proven restorable again; null: at once. Old code does not
-- read it and goes on without proofs.
ALTER TABLE environment ADD COLUMN IF NOT EXISTS restorable_due_at timestamptz;
