-- Which deployment a release's own address belongs to, so that old addresses can be taken away.
-- Old code neither writes nor reads it; the rows that it writes keep their address.
ALTER TABLE route ADD COLUMN IF NOT EXISTS deployment_id uuid;
CREATE INDEX IF NOT EXISTS route_own_address ON route (deployment_id)
    WHERE deployment_id IS NOT NULL AND releases <> '[]';
