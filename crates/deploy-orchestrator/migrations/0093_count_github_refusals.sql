-- What GitHub, or a gateway, refuses is counted apart from what failed on its way: only the former is ever given up. Old code
-- neither writes nor reads these; it gives up after three tries of any kind, as before.
ALTER TABLE github_archive ADD COLUMN IF NOT EXISTS refusals integer NOT NULL DEFAULT 0;
-- The last try failed for GitHub's fault, or the way's: what waits has no deadline until one does not.
ALTER TABLE github_archive ADD COLUMN IF NOT EXISTS outage boolean NOT NULL DEFAULT false;
ALTER TABLE github_redelivery ADD COLUMN IF NOT EXISTS refusals integer NOT NULL DEFAULT 0;
-- When deliveries were last looked through; unset before the first time.
ALTER TABLE github_repository ADD COLUMN IF NOT EXISTS swept_at timestamptz;
