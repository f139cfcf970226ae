-- The edges whose turn in a rolling switch is still to come: any other one, such as one that joined
-- meanwhile, serves the new release. Old code neither writes nor reads it.
ALTER TABLE route ADD COLUMN IF NOT EXISTS waiting_edges text[] NOT NULL DEFAULT '{}';
