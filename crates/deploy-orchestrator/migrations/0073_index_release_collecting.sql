-- What collecting looks for: sealed releases that are due, those not counted yet, and drafts that name
-- blobs. Old code does not use them.
CREATE INDEX IF NOT EXISTS release_collect_due ON release (collect_due_at)
    WHERE state = 'sealed' AND collected_at IS NULL;
CREATE INDEX IF NOT EXISTS release_uncounted ON release (id)
    WHERE state = 'sealed' AND collected_at IS NULL AND named_at IS NULL;
CREATE INDEX IF NOT EXISTS release_draft_named ON release (named_at)
    WHERE state = 'draft' AND named_at IS NOT NULL;
