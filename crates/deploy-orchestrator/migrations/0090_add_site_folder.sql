-- The folder of the repository that is the site. Old code neither writes nor reads it; it takes such a site for one that is
-- uploaded, and waits for its content.
ALTER TABLE site ADD COLUMN IF NOT EXISTS folder text NOT NULL DEFAULT '';
