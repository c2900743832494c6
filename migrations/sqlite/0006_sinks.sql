-- Where the gateway sends the records of the logs. Bodies are the JSON of the wire type; a credential is a reference.
CREATE TABLE sinks (
    name TEXT PRIMARY KEY,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID;
