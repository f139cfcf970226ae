-- The branch that a pull request is to be merged into, as long as GitHub owes an answer which files it changes: its preview
-- opened without. Empty where nothing is owed. Old code neither writes nor reads it: where it opens such a preview, the
-- deployment fails by the deadline of its content, and where it finds one, too.
ALTER TABLE pull_request ADD COLUMN IF NOT EXISTS unanswered_base text NOT NULL DEFAULT '';
CREATE INDEX IF NOT EXISTS pull_request_unanswered ON pull_request (lower(repository))
    WHERE unanswered_base <> '';
