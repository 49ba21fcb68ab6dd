-- Which steps were run.
CREATE TABLE onceway.migration (
    version integer PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- A record: head and metadata as in codec.rs, and its body. No index but the key's, so that a settlement
-- changes no index: the new row goes into the space that each page keeps free for it. Bodies above 2 KB go
-- to a table of their own, which PostgreSQL keeps beside this one, and are not read with the head.
CREATE TABLE onceway.record (
    namespace text COLLATE "C" NOT NULL,
    key bytea NOT NULL,
    expires timestamptz NOT NULL,
    head bytea NOT NULL,
    body bytea,
    PRIMARY KEY (namespace, key)
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_insert_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.05,
    autovacuum_vacuum_cost_delay = 0,
    toast.autovacuum_vacuum_scale_factor = 0.02,
    toast.autovacuum_vacuum_threshold = 1000,
    toast.autovacuum_vacuum_cost_delay = 0
);
ALTER TABLE onceway.record ALTER COLUMN head SET STORAGE EXTERNAL;
ALTER TABLE onceway.record ALTER COLUMN body SET STORAGE EXTERNAL;

-- The gateways that live. A crash of the server empties it, and whoever lives comes back with its next
-- heartbeat: so it needs no log.
CREATE UNLOGGED TABLE onceway.session (
    namespace text COLLATE "C" NOT NULL,
    session bytea NOT NULL,
    expires timestamptz NOT NULL,
    PRIMARY KEY (namespace, session)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);

-- The records that somebody waits for: a settlement tells only of these, since telling takes a lock that
-- the whole server shares.
CREATE UNLOGGED TABLE onceway.watch (
    namespace text COLLATE "C" NOT NULL,
    key bytea NOT NULL,
    expires timestamptz NOT NULL,
    PRIMARY KEY (namespace, key)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- Why a namespace takes no new claims; no row: it does.
CREATE TABLE onceway.gate (
    namespace text COLLATE "C" PRIMARY KEY,
    word text NOT NULL
);
