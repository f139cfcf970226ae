-- Outbox, relay, inbox, terminal facts and dead letters. Owned by crates/messaging; every service
-- carries this file unchanged as its migration 0002. First release: there is no old code to see it.

-- Facts, written in the transaction of the act. `epoch` and `seq` are stamped by the relay: ids are
-- allotted before commit, so they become visible out of order; stamped numbers never do.
CREATE TABLE IF NOT EXISTS outbox (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_type     text NOT NULL,
    entity         text NOT NULL,
    entity_version integer NOT NULL,
    created_at     timestamptz NOT NULL,
    -- An encoded Envelope without epoch and seq.
    envelope       bytea NOT NULL,
    epoch          integer,
    seq            bigint,
    CONSTRAINT outbox_stamp_whole CHECK ((epoch IS NULL) = (seq IS NULL))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01);
CREATE INDEX IF NOT EXISTS outbox_unstamped ON outbox (id) WHERE seq IS NULL;
CREATE UNIQUE INDEX IF NOT EXISTS outbox_stamped ON outbox (epoch, seq) WHERE seq IS NOT NULL;
CREATE INDEX IF NOT EXISTS outbox_by_age ON outbox (created_at);

-- The one row of the relay: who may stamp and publish, and how far it came. The epoch is the
-- schema's only one; it rises when the database turns out to be another than before.
CREATE TABLE IF NOT EXISTS relay (
    one               boolean PRIMARY KEY DEFAULT true CHECK (one),
    epoch             integer NOT NULL DEFAULT 1,
    system_identifier bigint NOT NULL,
    timeline          text NOT NULL,
    owner             text,
    fence             bigint NOT NULL DEFAULT 0,
    lease_until       timestamptz,
    next_seq          bigint NOT NULL DEFAULT 1,
    published_upto    bigint NOT NULL DEFAULT 0,
    CONSTRAINT relay_published_is_stamped CHECK (published_upto < next_seq)
) WITH (fillfactor = 50);
INSERT INTO relay (system_identifier, timeline)
SELECT system_identifier, left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) FROM pg_control_system()
ON CONFLICT DO NOTHING;

-- The entities that had their terminal fact: a second one is refused.
CREATE TABLE IF NOT EXISTS terminal (
    entity     text PRIMARY KEY,
    event_type text NOT NULL,
    at         timestamptz NOT NULL
);

-- How far a consumer applied a source without a gap, in the source's numbers.
CREATE TABLE IF NOT EXISTS inbox_upto (
    consumer text NOT NULL,
    source   text NOT NULL,
    epoch    integer NOT NULL,
    upto     bigint NOT NULL,
    PRIMARY KEY (consumer, source)
) WITH (fillfactor = 50);

-- What a consumer applied beyond that: numbers that came before others did.
CREATE TABLE IF NOT EXISTS inbox (
    consumer text NOT NULL,
    source   text NOT NULL,
    epoch    integer NOT NULL,
    seq      bigint NOT NULL,
    PRIMARY KEY (consumer, source, epoch, seq)
);

-- Messages that could not be applied; a person replays or discards them.
CREATE TABLE IF NOT EXISTS dead_letter (
    id         uuid PRIMARY KEY,
    consumer   text NOT NULL,
    source     text NOT NULL,
    epoch      integer NOT NULL,
    seq        bigint NOT NULL,
    event_type text NOT NULL,
    payload    bytea NOT NULL,
    error      text NOT NULL,
    deliveries integer NOT NULL,
    created_at timestamptz NOT NULL,
    state      text NOT NULL DEFAULT 'parked' CHECK (state IN ('parked', 'replaying', 'replayed', 'discarded')),
    decided_by text,
    reason     text,
    decided_at timestamptz,
    CONSTRAINT dead_letter_decided_whole CHECK ((state = 'parked') OR (decided_by IS NOT NULL AND decided_at IS NOT NULL))
);
CREATE INDEX IF NOT EXISTS dead_letter_waiting ON dead_letter (id) WHERE state IN ('parked', 'replaying');
