-- API tokens. The secret is not here: only its SHA-256, so that a stolen dump opens nothing.
-- New table: old code does not see it.
CREATE TABLE IF NOT EXISTS token (
    id uuid PRIMARY KEY,
    principal_id uuid NOT NULL REFERENCES principal,
    name text NOT NULL,
    hash bytea NOT NULL,
    role text NOT NULL,
    -- Slugs; empty for all.
    sites text[] NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz,
    -- Given by the configuration, not made by a call.
    bootstrap boolean NOT NULL DEFAULT false,
    CONSTRAINT token_hash_is_sha256 CHECK (octet_length(hash) = 32),
    CONSTRAINT token_name_length CHECK (char_length(name) BETWEEN 1 AND 64),
    CONSTRAINT token_role_known CHECK (role IN ('viewer', 'deployer', 'approver', 'admin'))
);
-- Ids rise with time, so this is "newest first" of one principal.
CREATE INDEX IF NOT EXISTS token_of_principal ON token (principal_id, id DESC);
