-- The branch that a pull request is to be merged into, as long as GitHub owes an answer which files it changes: its preview
-- opened without. Empty where nothing is owed, and the two moments mean nothing then: until when the answer is waited for,
-- and when it was asked for last. Old code neither writes nor reads these: where it opens such a preview, the deployment
-- fails by the deadline of its content; where it finds one, that deadline begins when the answer is no longer waited for.
ALTER TABLE pull_request
    ADD COLUMN IF NOT EXISTS unanswered_base text NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS unanswered_until timestamptz,
    ADD COLUMN IF NOT EXISTS unanswered_asked_at timestamptz;
CREATE INDEX IF NOT EXISTS pull_request_unanswered ON pull_request (lower(repository))
    WHERE unanswered_base <> '';
