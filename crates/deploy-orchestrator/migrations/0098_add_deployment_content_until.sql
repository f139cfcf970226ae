-- Until when a deployment that a call made waits for content that is not whole; one that a push made waits as long as
-- its trigger says. Old code neither writes nor reads it: what it accepts waits for as long as somebody lets it.
ALTER TABLE deployment ADD COLUMN IF NOT EXISTS content_until timestamptz;
