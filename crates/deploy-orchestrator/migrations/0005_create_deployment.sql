-- Deployments, their steps, blockers and logs. First release: there is no old code to see it.
CREATE SEQUENCE IF NOT EXISTS claim_seq;

CREATE TABLE IF NOT EXISTS deployment (
    id                  uuid PRIMARY KEY,
    site_id             uuid NOT NULL REFERENCES site,
    environment_id      uuid NOT NULL REFERENCES environment,
    release_id          uuid NOT NULL REFERENCES release,
    kind                text NOT NULL CHECK (kind IN ('standard', 'rollback', 'preview')),
    strategy            jsonb NOT NULL,
    -- The environment's policy as it was when the deployment was accepted.
    policy              jsonb NOT NULL,
    state               text NOT NULL CHECK (state IN (
        'pending', 'running', 'waiting', 'cancelling',
        'succeeded', 'failed', 'cancelled', 'superseded', 'rolled_back')),
    cause               text NOT NULL DEFAULT '',
    message             text NOT NULL DEFAULT '',
    -- The lane's fence under which it acts; 0 before the grant.
    fence               bigint NOT NULL DEFAULT 0,
    version             integer NOT NULL DEFAULT 1,
    -- Rank by admission within the lane.
    admission           bigint GENERATED ALWAYS AS IDENTITY,
    -- No longer superseded by a push: three before it were.
    pinned              boolean NOT NULL DEFAULT false,
    weight              integer NOT NULL DEFAULT 0,
    created_at          timestamptz NOT NULL,
    created_by          text NOT NULL,
    started_at          timestamptz,
    pivoted_at          timestamptz,
    live_at             timestamptz,
    finished_at         timestamptz,
    deadline_at         timestamptz,
    -- What was left of the deadline when a wait for a person paused it.
    deadline_left_ms    bigint,
    -- While cancelling: the terminal state that the undoing ends in.
    undo_ends           text CHECK (undo_ends IN ('cancelled', 'superseded', 'failed', 'rolled_back')),
    previous_release_id uuid,
    retry_of            uuid,
    leaves_release_id   uuid,
    superseded_by       uuid,
    reason              text NOT NULL DEFAULT '',
    target_confirmed    boolean,
    trace_id            text NOT NULL,
    span_id             text NOT NULL,
    -- The context of the request that asked for it; linked from the trace, not its parent.
    request_traceparent text NOT NULL DEFAULT '',
    CONSTRAINT deployment_terminal_whole CHECK (
        (state IN ('succeeded', 'failed', 'cancelled', 'superseded', 'rolled_back')) = (finished_at IS NOT NULL)),
    CONSTRAINT deployment_pending_whole CHECK (state <> 'pending' OR started_at IS NULL),
    CONSTRAINT deployment_acting_whole CHECK (
        state NOT IN ('running', 'waiting', 'cancelling') OR started_at IS NOT NULL),
    CONSTRAINT deployment_cancelling_whole CHECK (state <> 'cancelling' OR undo_ends IS NOT NULL)
);
-- At most one deployment acts on a lane.
CREATE UNIQUE INDEX IF NOT EXISTS deployment_one_acting ON deployment (environment_id)
    WHERE state IN ('running', 'waiting', 'cancelling');
CREATE INDEX IF NOT EXISTS deployment_pending ON deployment (environment_id, admission) WHERE state = 'pending';
CREATE INDEX IF NOT EXISTS deployment_by_environment ON deployment (environment_id, id DESC);
CREATE INDEX IF NOT EXISTS deployment_by_site ON deployment (site_id, id DESC);
CREATE INDEX IF NOT EXISTS deployment_by_state ON deployment (state, id DESC);
CREATE INDEX IF NOT EXISTS deployment_by_release ON deployment (release_id, id DESC);
CREATE INDEX IF NOT EXISTS deployment_due ON deployment (deadline_at)
    WHERE state IN ('running', 'waiting') AND deadline_at IS NOT NULL;

CREATE TABLE IF NOT EXISTS step (
    id            uuid PRIMARY KEY,
    deployment_id uuid NOT NULL REFERENCES deployment,
    ord           integer NOT NULL,
    kind          text NOT NULL,
    plan_version  integer NOT NULL,
    weight        integer NOT NULL DEFAULT 0,
    interval_ms   bigint NOT NULL DEFAULT 0,
    undo_of       uuid,
    state         text NOT NULL CHECK (state IN (
        'pending', 'ready', 'running', 'done', 'failed', 'abandoned', 'quarantined')),
    -- A ready step is due at this moment, or at once when an edge reports and it waits for edges.
    run_at        timestamptz,
    waits_on_edges boolean NOT NULL DEFAULT false,
    lease_until   timestamptz,
    owner         text,
    claim         bigint,
    attempt       integer NOT NULL DEFAULT 0,
    polls         integer NOT NULL DEFAULT 0,
    lost_leases   integer NOT NULL DEFAULT 0,
    -- What the step knows between its turns.
    detail        jsonb NOT NULL DEFAULT '{}',
    message       text NOT NULL DEFAULT '',
    started_at    timestamptz,
    finished_at   timestamptz,
    span_id       text NOT NULL,
    CONSTRAINT step_place_unique UNIQUE (deployment_id, ord),
    CONSTRAINT step_ready_whole CHECK (state NOT IN ('ready', 'running') OR run_at IS NOT NULL),
    CONSTRAINT step_running_whole CHECK (state <> 'running' OR (lease_until IS NOT NULL AND claim IS NOT NULL))
);
CREATE INDEX IF NOT EXISTS step_claimable ON step (run_at) WHERE state IN ('ready', 'running');
CREATE INDEX IF NOT EXISTS step_quarantined ON step (id) WHERE state = 'quarantined';

-- Why something is not moving; kept when cleared.
CREATE TABLE IF NOT EXISTS blocker (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    deployment_id uuid NOT NULL REFERENCES deployment,
    kind          text NOT NULL,
    since         timestamptz NOT NULL,
    until         timestamptz,
    owner         text NOT NULL,
    message       text NOT NULL,
    action        text NOT NULL,
    cleared_at    timestamptz
);
CREATE INDEX IF NOT EXISTS blocker_by_deployment ON blocker (deployment_id, id);
CREATE UNIQUE INDEX IF NOT EXISTS blocker_standing ON blocker (deployment_id, kind) WHERE cleared_at IS NULL;

-- What a deployment decided and saw. Written under the deployment's lock, so ids rise in order within one.
CREATE TABLE IF NOT EXISTS deployment_log (
    id            bigint GENERATED ALWAYS AS IDENTITY,
    deployment_id uuid NOT NULL REFERENCES deployment,
    at            timestamptz NOT NULL,
    step_ord      integer NOT NULL,
    message       text NOT NULL,
    PRIMARY KEY (deployment_id, id)
);
