-- The searchable index anew. A record's id is its place in time, so that every index on a column also gives its
-- records in the order of time, and so that words are found newest first without sorting. `indexed` says how far a
-- log is in the index, apart from how far it is known: it starts at 0 here, so the index is rebuilt from the logs.

ALTER TABLE logs ADD COLUMN indexed INTEGER NOT NULL DEFAULT 0 CHECK (indexed >= 0);
ALTER TABLE logs ADD COLUMN index_frontier TEXT NOT NULL DEFAULT '[]';

DROP TABLE records;
DROP TABLE records_text;

CREATE TABLE records (
    -- 2 × microseconds since 1970, plus 1 in the control plane's log; raised by 2 as long as it is taken.
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
CREATE UNIQUE INDEX records_place    ON records (log, idx);
CREATE UNIQUE INDEX records_changed  ON records (changed);
CREATE INDEX records_claw            ON records (claw)           WHERE claw IS NOT NULL;
CREATE INDEX records_claw_action     ON records (claw, action)   WHERE action IS NOT NULL;
CREATE INDEX records_claw_kind       ON records (claw, kind)     WHERE claw IS NOT NULL;
CREATE INDEX records_actor           ON records (actor);
CREATE INDEX records_kind            ON records (kind);
CREATE INDEX records_action          ON records (action)         WHERE action IS NOT NULL;
CREATE INDEX records_resource        ON records (resource)       WHERE resource IS NOT NULL;
CREATE INDEX records_cause           ON records (cause)          WHERE cause IS NOT NULL;
-- What is usual is found by looking back in time; only what is unusual is indexed.
CREATE INDEX records_decision        ON records (decision)       WHERE decision <> 'allow';
CREATE INDEX records_claw_decision   ON records (claw, decision) WHERE decision <> 'allow';
CREATE INDEX records_outcome         ON records (outcome)        WHERE outcome <> 'succeeded';
CREATE INDEX records_claw_outcome    ON records (claw, outcome)  WHERE outcome <> 'succeeded';

CREATE VIRTUAL TABLE records_text USING fts5 (body, content = '', contentless_delete = 1);
