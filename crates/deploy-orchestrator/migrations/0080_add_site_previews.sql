-- Which pull requests get a preview, how long previews stay, and a version for the events of changes. Old code neither
-- writes nor reads these: its sites give none.
ALTER TABLE site
    ADD COLUMN IF NOT EXISTS preview_from text NOT NULL DEFAULT 'off',
    ADD COLUMN IF NOT EXISTS preview_max_age_ms bigint NOT NULL DEFAULT 2592000000,
    ADD COLUMN IF NOT EXISTS version integer NOT NULL DEFAULT 1;
