-- How often an operator took a record away, so that whoever keeps finished records in memory lets go of them; no row:
-- never.
CREATE TABLE onceway.forgetting (
    namespace text COLLATE "C" PRIMARY KEY,
    count bigint NOT NULL
);
