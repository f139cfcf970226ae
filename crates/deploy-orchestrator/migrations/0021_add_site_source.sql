-- Where a site's content comes from. Old code neither writes nor reads it; its sites are uploaded.
ALTER TABLE site ADD COLUMN IF NOT EXISTS source text NOT NULL DEFAULT 'upload';
