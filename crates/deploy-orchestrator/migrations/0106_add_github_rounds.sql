-- How many sweeps one after the other asked GitHub for deliveries, had more to ask for, and left heads for that.
-- Old code does not read it, and neither counts nor clears it: it decides heads after the first.
ALTER TABLE github_repository ADD COLUMN IF NOT EXISTS rounds integer NOT NULL DEFAULT 0;
