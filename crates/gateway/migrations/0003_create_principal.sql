-- Who acts. 0002 is left for the outbox that this schema will have. New table: old code does not see it.
CREATE TABLE IF NOT EXISTS principal (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    kind text NOT NULL,
    -- In lower case, as commit authors are matched.
    emails text[] NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT principal_name_unique UNIQUE (name),
    CONSTRAINT principal_name_form CHECK (name ~ '^[a-z0-9._-]{1,64}$'),
    CONSTRAINT principal_kind_known CHECK (kind IN ('person', 'machine')),
    CONSTRAINT principal_emails_of_persons CHECK (kind = 'person' OR cardinality(emails) = 0)
);
