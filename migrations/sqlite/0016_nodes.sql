-- Several nodes, each with a gateway, a runner and a log of its own. `local` is the control plane's own host.

CREATE TABLE reports (
    node     TEXT NOT NULL,
    kind     TEXT NOT NULL CHECK (kind IN ('gateway', 'runner')),
    -- Pinned on first use.
    log_vkey TEXT,
    hello    TEXT,
    status   TEXT,
    seen_at  TEXT NOT NULL,
    PRIMARY KEY (node, kind)
) STRICT, WITHOUT ROWID;
INSERT INTO reports SELECT 'local', kind, log_vkey, hello, status, seen_at FROM nodes;
DROP TABLE nodes;

-- Hosts that joined. The tokens are digests; a revoked node stays, so that its name tells of it.
CREATE TABLE nodes (
    name          TEXT PRIMARY KEY,
    pool          TEXT,
    gateway_token TEXT NOT NULL,
    runner_token  TEXT NOT NULL,
    joined_at     TEXT NOT NULL,
    revoked_at    TEXT
) STRICT, WITHOUT ROWID;

-- SHA-256 of each certificate that opens the door: a certificate that is not here is nobody's.
CREATE TABLE certificates (
    number     INTEGER PRIMARY KEY,
    digest     TEXT NOT NULL UNIQUE,
    node       TEXT NOT NULL REFERENCES nodes (name),
    expires_at TEXT NOT NULL
) STRICT;

-- A row is deleted by the join that it is good for.
CREATE TABLE join_tokens (
    digest     TEXT PRIMARY KEY,
    node       TEXT NOT NULL,
    pool       TEXT,
    expires_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The same as before, for any number of gateways' logs.
ALTER TABLE logs RENAME TO logs_before;
CREATE TABLE logs (
    -- `gateway`, `gateway-NODE` or `control`.
    name           TEXT PRIMARY KEY,
    origin         TEXT    NOT NULL,
    size           INTEGER NOT NULL CHECK (size >= 0),
    frontier       TEXT    NOT NULL,
    checkpoint     TEXT    NOT NULL,
    cosigned       TEXT    NOT NULL,
    indexed        INTEGER NOT NULL DEFAULT 0 CHECK (indexed >= 0),
    index_frontier TEXT    NOT NULL DEFAULT '[]'
) STRICT, WITHOUT ROWID;
INSERT INTO logs SELECT name, origin, size, frontier, checkpoint, cosigned, indexed, index_frontier FROM logs_before;
DROP TABLE logs_before;
