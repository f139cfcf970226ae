-- How long a deployment of a commit acts on the lane, as far as those that went live show: a moving mean, the newest a
-- quarter of it. What waits is told when its turn may come. Old code neither writes nor reads it.
ALTER TABLE lane ADD COLUMN IF NOT EXISTS lasts_ms bigint;
