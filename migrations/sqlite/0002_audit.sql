-- The intake of audit logs and their searchable index. The logs are the truth; `records` and `records_text`
-- can be rebuilt from them.

CREATE TABLE logs (
    name       TEXT PRIMARY KEY CHECK (name IN ('gateway', 'control')),
    origin     TEXT    NOT NULL,
    size       INTEGER NOT NULL CHECK (size >= 0),
    -- Hashes of the perfect subtrees that cover [0, size), left to right, as a JSON array.
    frontier   TEXT    NOT NULL,
    checkpoint TEXT    NOT NULL,
    cosigned   TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE records (
    id          INTEGER PRIMARY KEY,
    log         TEXT    NOT NULL,
    idx         INTEGER NOT NULL,
    outcome_idx INTEGER,
    time        INTEGER NOT NULL,
    -- Rises with every insert and every merge of an outcome: what `tail` follows.
    changed     INTEGER NOT NULL,
    kind        TEXT    NOT NULL,
    claw        TEXT,
    actor       TEXT    NOT NULL,
    action      TEXT,
    resource    TEXT,
    decision    TEXT,
    outcome     TEXT,
    cause       TEXT,
    body        TEXT    NOT NULL
) STRICT;
CREATE UNIQUE INDEX records_place   ON records (log, idx);
CREATE UNIQUE INDEX records_changed ON records (changed);
CREATE INDEX records_time     ON records (time, id);
CREATE INDEX records_claw     ON records (claw, time, id);
CREATE INDEX records_actor    ON records (actor, time, id);
CREATE INDEX records_kind     ON records (kind, time, id);
CREATE INDEX records_action   ON records (action, time, id);
CREATE INDEX records_resource ON records (resource, time, id);
CREATE INDEX records_decision ON records (decision, time, id);
CREATE INDEX records_outcome  ON records (outcome, time, id);
CREATE INDEX records_cause    ON records (cause, time, id);

CREATE VIRTUAL TABLE records_text USING fts5 (body, content = '', contentless_delete = 1);

-- The RFC 6962 hash of every leaf that was taken in, so that a leaf sent again can be told from another one.
CREATE TABLE log_leaves (
    log  TEXT    NOT NULL,
    idx  INTEGER NOT NULL,
    hash BLOB    NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (log, idx)
) STRICT, WITHOUT ROWID;
