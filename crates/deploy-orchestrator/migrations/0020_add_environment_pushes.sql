-- Which pushes deploy to an environment by themselves. Old code neither writes nor reads it.
ALTER TABLE environment
    ADD COLUMN IF NOT EXISTS push_branch text NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS push_paths text[] NOT NULL DEFAULT '{}';
