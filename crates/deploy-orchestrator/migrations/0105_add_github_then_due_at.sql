-- Set where a sweep asked GitHub for deliveries once more and left heads to the next one: when the sweep after that is due.
-- Old code does not read it, and neither sets nor clears it: it asks and decides in one sweep, as before.
ALTER TABLE github_repository ADD COLUMN IF NOT EXISTS then_due_at timestamptz;
