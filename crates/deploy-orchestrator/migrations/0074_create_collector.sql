-- Whose turn it is to collect, in one row. Old code does not collect.
CREATE TABLE IF NOT EXISTS collector (
    one         boolean PRIMARY KEY DEFAULT true CHECK (one),
    due_at      timestamptz NOT NULL,
    finished_at timestamptz
);
INSERT INTO collector (due_at) VALUES ('-infinity') ON CONFLICT DO NOTHING;
