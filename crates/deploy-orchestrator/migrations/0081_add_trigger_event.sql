-- What happened at the sender, and in which pull request. Old code neither writes nor reads these.
ALTER TABLE trigger
    ADD COLUMN IF NOT EXISTS event text NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS pull_request integer;
