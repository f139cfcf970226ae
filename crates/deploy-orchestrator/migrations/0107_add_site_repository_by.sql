-- Who changed a site's repository last; empty where nobody did. Old code neither writes nor reads it: the previews of the
-- repository before a change that it makes stay until their age.
ALTER TABLE site ADD COLUMN IF NOT EXISTS repository_by text NOT NULL DEFAULT '';
