-- When an edge last told that it staged or applied something, on a stream that went on: what waits for it counts its patience
-- from then. Null before it did. Old code neither writes nor reads it, and counts from the write alone.
ALTER TABLE edge ADD COLUMN IF NOT EXISTS moved_at timestamptz;
