-- What members decided about calls that wait for them. The calls themselves are in the gateway's status; a row is
-- deleted once the gateway reports that the decision has had its effect, and is in its log with the member's name.
CREATE TABLE approvals (
    id   TEXT PRIMARY KEY,
    claw TEXT NOT NULL,
    body TEXT NOT NULL,
    at   TEXT NOT NULL
) STRICT, WITHOUT ROWID;
