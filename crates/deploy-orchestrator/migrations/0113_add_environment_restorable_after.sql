-- The digest of the blob that the proof of an environment read last: the next proof goes on after it. Null before the first.
-- Old code neither writes nor reads it, and reads no blobs.
ALTER TABLE environment ADD COLUMN IF NOT EXISTS restorable_after bytea;
