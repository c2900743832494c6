-- Control-plane state. Bodies are the JSON of the wire types; what a query must find or order by is a column.
-- Times are RFC 3339 text, except in the audit index, where they are microseconds since 1970.

-- One row: the counter that every change of desired state raises. The empty state is revision 1, so that a node that
-- has nothing and asks for anything newer than 0 gets it.
CREATE TABLE organization (
    id       INTEGER PRIMARY KEY CHECK (id = 1),
    name     TEXT    NOT NULL,
    revision INTEGER NOT NULL CHECK (revision >= 0)
) STRICT;
INSERT INTO organization (id, name, revision) VALUES (1, 'default', 1);

CREATE TABLE connections (
    name TEXT PRIMARY KEY,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE guardrails (
    name TEXT PRIMARY KEY,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- One row per cage that ever was asked for; at most one living Claw of a name.
CREATE TABLE claws (
    cage           TEXT    PRIMARY KEY,
    name           TEXT    NOT NULL,
    revision       INTEGER NOT NULL CHECK (revision >= 1),
    generation     INTEGER NOT NULL CHECK (generation >= 1),
    desired        TEXT    NOT NULL CHECK (desired IN ('running', 'paused', 'stopped')),
    asked_by       TEXT    NOT NULL,
    -- State revision that first contained the Claw's current revision.
    revised_in     INTEGER NOT NULL,
    -- State revision of the newest wish, of whatever kind.
    wished_in      INTEGER NOT NULL,
    destroyed_at   TEXT
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX claws_living ON claws (name) WHERE destroyed_at IS NULL;

-- Immutable: no statement updates or deletes a row of this table.
CREATE TABLE claw_revisions (
    cage     TEXT    NOT NULL REFERENCES claws (cage),
    revision INTEGER NOT NULL CHECK (revision >= 1),
    spec     TEXT    NOT NULL,
    digest   TEXT    NOT NULL,
    at       TEXT    NOT NULL,
    by       TEXT    NOT NULL,
    PRIMARY KEY (cage, revision)
) STRICT, WITHOUT ROWID;

CREATE TABLE grants (
    number     INTEGER PRIMARY KEY,
    id         TEXT NOT NULL,
    claw       TEXT NOT NULL,
    cage       TEXT NOT NULL REFERENCES claws (cage),
    origin     TEXT NOT NULL CHECK (origin IN ('file', 'hand', 'model')),
    body       TEXT NOT NULL,
    added_at   TEXT NOT NULL,
    revoked_at TEXT,
    revoked_by TEXT
) STRICT;
CREATE UNIQUE INDEX grants_living ON grants (id) WHERE revoked_at IS NULL;
CREATE INDEX grants_of_claw ON grants (claw) WHERE revoked_at IS NULL;

-- Sealed; a row is deleted once the gateway has the message in its own durable inbox.
CREATE TABLE messages (
    id   TEXT PRIMARY KEY,
    claw TEXT NOT NULL,
    body TEXT NOT NULL,
    at   TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- What the nodes last said of themselves. `log_vkey` is pinned on first use.
CREATE TABLE nodes (
    kind     TEXT PRIMARY KEY CHECK (kind IN ('gateway', 'runner')),
    log_vkey TEXT,
    hello    TEXT,
    status   TEXT,
    seen_at  TEXT NOT NULL
) STRICT, WITHOUT ROWID;
