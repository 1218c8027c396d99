-- +goose Up
-- Times are microseconds since 1970 UTC. A position (pos) grows in the order of
-- the commits, because there is one writer at a time.

CREATE TABLE rooms (
    name        TEXT PRIMARY KEY,
    org         TEXT NOT NULL,
    parent      TEXT NOT NULL,
    state       TEXT NOT NULL,
    version     INTEGER NOT NULL,
    create_time INTEGER NOT NULL,
    update_time INTEGER NOT NULL,
    body        TEXT NOT NULL
);
CREATE INDEX rooms_org ON rooms (org, name);
CREATE INDEX rooms_parent ON rooms (parent, name);
CREATE INDEX rooms_state ON rooms (state, name);

CREATE TABLE participants (
    name        TEXT PRIMARY KEY,
    org         TEXT NOT NULL,
    parent      TEXT NOT NULL,
    state       TEXT NOT NULL,
    version     INTEGER NOT NULL,
    create_time INTEGER NOT NULL,
    update_time INTEGER NOT NULL,
    body        TEXT NOT NULL
);
CREATE INDEX participants_org ON participants (org, name);
CREATE INDEX participants_parent ON participants (parent, name);
CREATE INDEX participants_state ON participants (state, name);

CREATE TABLE recordings (
    name        TEXT PRIMARY KEY,
    org         TEXT NOT NULL,
    parent      TEXT NOT NULL,
    state       TEXT NOT NULL,
    version     INTEGER NOT NULL,
    create_time INTEGER NOT NULL,
    update_time INTEGER NOT NULL,
    body        TEXT NOT NULL
);
CREATE INDEX recordings_org ON recordings (org, name);
CREATE INDEX recordings_parent ON recordings (parent, name);
CREATE INDEX recordings_state ON recordings (state, name);

CREATE TABLE captures (
    name        TEXT PRIMARY KEY,
    org         TEXT NOT NULL,
    parent      TEXT NOT NULL,
    state       TEXT NOT NULL,
    version     INTEGER NOT NULL,
    create_time INTEGER NOT NULL,
    update_time INTEGER NOT NULL,
    body        TEXT NOT NULL
);
CREATE INDEX captures_org ON captures (org, name);
CREATE INDEX captures_parent ON captures (parent, name);
CREATE INDEX captures_state ON captures (state, name);

CREATE TABLE segments (
    name        TEXT PRIMARY KEY,
    org         TEXT NOT NULL,
    parent      TEXT NOT NULL,
    state       TEXT NOT NULL,
    version     INTEGER NOT NULL,
    create_time INTEGER NOT NULL,
    update_time INTEGER NOT NULL,
    body        TEXT NOT NULL
);
CREATE INDEX segments_org ON segments (org, name);
CREATE INDEX segments_parent ON segments (parent, name);
CREATE INDEX segments_state ON segments (state, name);

CREATE TABLE connections (
    name        TEXT PRIMARY KEY,
    org         TEXT NOT NULL,
    parent      TEXT NOT NULL,
    state       TEXT NOT NULL,
    version     INTEGER NOT NULL,
    create_time INTEGER NOT NULL,
    update_time INTEGER NOT NULL,
    body        TEXT NOT NULL
);
CREATE INDEX connections_org ON connections (org, name);
CREATE INDEX connections_parent ON connections (parent, name);
CREATE INDEX connections_state ON connections (state, name);

CREATE TABLE sessions (
    name        TEXT PRIMARY KEY,
    org         TEXT NOT NULL,
    parent      TEXT NOT NULL,
    state       TEXT NOT NULL,
    version     INTEGER NOT NULL,
    create_time INTEGER NOT NULL,
    update_time INTEGER NOT NULL,
    body        TEXT NOT NULL
);
CREATE INDEX sessions_org ON sessions (org, name);
CREATE INDEX sessions_parent ON sessions (parent, name);
CREATE INDEX sessions_state ON sessions (state, name);

CREATE TABLE gateways (
    name        TEXT PRIMARY KEY,
    org         TEXT NOT NULL,
    parent      TEXT NOT NULL,
    state       TEXT NOT NULL,
    version     INTEGER NOT NULL,
    create_time INTEGER NOT NULL,
    update_time INTEGER NOT NULL,
    body        TEXT NOT NULL
);
CREATE INDEX gateways_org ON gateways (org, name);
CREATE INDEX gateways_parent ON gateways (parent, name);
CREATE INDEX gateways_state ON gateways (state, name);

CREATE TABLE requests (
    org         TEXT NOT NULL,
    method      TEXT NOT NULL,
    id          TEXT NOT NULL,
    hash        BLOB NOT NULL,
    answer      BLOB NOT NULL,
    expire_time INTEGER NOT NULL,
    PRIMARY KEY (org, method, id)
) WITHOUT ROWID;
CREATE INDEX requests_expire ON requests (expire_time);

-- The outbox. seq is NULL until the sequencer has numbered the event.
CREATE TABLE events (
    pos     INTEGER PRIMARY KEY,
    id      TEXT NOT NULL UNIQUE,
    org     TEXT NOT NULL,
    type    TEXT NOT NULL,
    subject TEXT NOT NULL,
    time    INTEGER NOT NULL,
    body    TEXT NOT NULL,
    seq     INTEGER
);
CREATE UNIQUE INDEX events_seq ON events (org, seq);
CREATE INDEX events_pending ON events (pos) WHERE seq IS NULL;
CREATE INDEX events_time ON events (time);

-- The last sequence number given, per organisation: it outlives the events.
CREATE TABLE event_counters (
    org TEXT PRIMARY KEY,
    seq INTEGER NOT NULL
);

-- The evidence log. idx is NULL until the sequencer has numbered the leaf.
CREATE TABLE leaves (
    pos     INTEGER PRIMARY KEY,
    id      TEXT NOT NULL UNIQUE,
    org     TEXT NOT NULL,
    subject TEXT NOT NULL,
    time    INTEGER NOT NULL,
    body    BLOB NOT NULL,
    opening BLOB,
    idx     INTEGER
);
CREATE UNIQUE INDEX leaves_idx ON leaves (idx);
CREATE INDEX leaves_pending ON leaves (pos) WHERE idx IS NULL;
CREATE INDEX leaves_subject ON leaves (org, subject, idx);

-- The stored hashes of the tree, in tlog's storage order.
CREATE TABLE hashes (
    idx  INTEGER PRIMARY KEY,
    hash BLOB NOT NULL
);

-- One row: the newest checkpoint and the highest fence token seen.
CREATE TABLE log_state (
    id        INTEGER PRIMARY KEY CHECK (id = 1),
    size      INTEGER NOT NULL,
    root      BLOB NOT NULL,
    note      BLOB,
    published INTEGER NOT NULL,
    fence     INTEGER NOT NULL
);
INSERT INTO log_state (id, size, root, note, published, fence) VALUES (1, 0, zeroblob(32), NULL, 0, 0);
