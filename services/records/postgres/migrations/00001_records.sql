-- +goose Up
-- Names are compared byte by byte (COLLATE "C"), as in SQLite. Bodies are json,
-- not jsonb: jsonb refuses \u0000 in a string and does not give back the bytes
-- that were written.

CREATE TABLE rooms (
    name        text COLLATE "C" PRIMARY KEY,
    org         text COLLATE "C" NOT NULL,
    parent      text COLLATE "C" NOT NULL,
    state       text COLLATE "C" NOT NULL,
    version     bigint NOT NULL,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    body        json NOT NULL
);
CREATE INDEX rooms_org ON rooms (org, name);
CREATE INDEX rooms_parent ON rooms (parent, name);
CREATE INDEX rooms_state ON rooms (state, name);

CREATE TABLE participants (
    name        text COLLATE "C" PRIMARY KEY,
    org         text COLLATE "C" NOT NULL,
    parent      text COLLATE "C" NOT NULL,
    state       text COLLATE "C" NOT NULL,
    version     bigint NOT NULL,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    body        json NOT NULL
);
CREATE INDEX participants_org ON participants (org, name);
CREATE INDEX participants_parent ON participants (parent, name);
CREATE INDEX participants_state ON participants (state, name);

CREATE TABLE recordings (
    name        text COLLATE "C" PRIMARY KEY,
    org         text COLLATE "C" NOT NULL,
    parent      text COLLATE "C" NOT NULL,
    state       text COLLATE "C" NOT NULL,
    version     bigint NOT NULL,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    body        json NOT NULL
);
CREATE INDEX recordings_org ON recordings (org, name);
CREATE INDEX recordings_parent ON recordings (parent, name);
CREATE INDEX recordings_state ON recordings (state, name);

CREATE TABLE captures (
    name        text COLLATE "C" PRIMARY KEY,
    org         text COLLATE "C" NOT NULL,
    parent      text COLLATE "C" NOT NULL,
    state       text COLLATE "C" NOT NULL,
    version     bigint NOT NULL,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    body        json NOT NULL
);
CREATE INDEX captures_org ON captures (org, name);
CREATE INDEX captures_parent ON captures (parent, name);
CREATE INDEX captures_state ON captures (state, name);

CREATE TABLE segments (
    name        text COLLATE "C" PRIMARY KEY,
    org         text COLLATE "C" NOT NULL,
    parent      text COLLATE "C" NOT NULL,
    state       text COLLATE "C" NOT NULL,
    version     bigint NOT NULL,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    body        json NOT NULL
);
CREATE INDEX segments_org ON segments (org, name);
CREATE INDEX segments_parent ON segments (parent, name);
CREATE INDEX segments_state ON segments (state, name);

CREATE TABLE connections (
    name        text COLLATE "C" PRIMARY KEY,
    org         text COLLATE "C" NOT NULL,
    parent      text COLLATE "C" NOT NULL,
    state       text COLLATE "C" NOT NULL,
    version     bigint NOT NULL,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    body        json NOT NULL
);
CREATE INDEX connections_org ON connections (org, name);
CREATE INDEX connections_parent ON connections (parent, name);
CREATE INDEX connections_state ON connections (state, name);

CREATE TABLE sessions (
    name        text COLLATE "C" PRIMARY KEY,
    org         text COLLATE "C" NOT NULL,
    parent      text COLLATE "C" NOT NULL,
    state       text COLLATE "C" NOT NULL,
    version     bigint NOT NULL,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    body        json NOT NULL
);
CREATE INDEX sessions_org ON sessions (org, name);
CREATE INDEX sessions_parent ON sessions (parent, name);
CREATE INDEX sessions_state ON sessions (state, name);

CREATE TABLE gateways (
    name        text COLLATE "C" PRIMARY KEY,
    org         text COLLATE "C" NOT NULL,
    parent      text COLLATE "C" NOT NULL,
    state       text COLLATE "C" NOT NULL,
    version     bigint NOT NULL,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    body        json NOT NULL
);
CREATE INDEX gateways_org ON gateways (org, name);
CREATE INDEX gateways_parent ON gateways (parent, name);
CREATE INDEX gateways_state ON gateways (state, name);

CREATE TABLE requests (
    org         text COLLATE "C" NOT NULL,
    method      text COLLATE "C" NOT NULL,
    id          text COLLATE "C" NOT NULL,
    hash        bytea NOT NULL,
    answer      bytea NOT NULL,
    expire_time timestamptz NOT NULL,
    PRIMARY KEY (org, method, id)
);
CREATE INDEX requests_expire ON requests (expire_time);

-- The outbox. seq is NULL until the sequencer has numbered the event.
CREATE TABLE events (
    pos     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id      text COLLATE "C" NOT NULL UNIQUE,
    org     text COLLATE "C" NOT NULL,
    type    text COLLATE "C" NOT NULL,
    subject text COLLATE "C" NOT NULL,
    time    timestamptz NOT NULL,
    body    json NOT NULL,
    seq     bigint
);
CREATE UNIQUE INDEX events_seq ON events (org, seq);
CREATE INDEX events_pending ON events (pos) WHERE seq IS NULL;
CREATE INDEX events_time ON events (time);

-- The last sequence number given, per organisation: it outlives the events.
CREATE TABLE event_counters (
    org text COLLATE "C" PRIMARY KEY,
    seq bigint NOT NULL
);

-- The evidence log. idx is NULL until the sequencer has numbered the leaf.
CREATE TABLE leaves (
    pos     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id      text COLLATE "C" NOT NULL UNIQUE,
    org     text COLLATE "C" NOT NULL,
    subject text COLLATE "C" NOT NULL,
    time    timestamptz NOT NULL,
    body    bytea NOT NULL,
    opening bytea,
    idx     bigint
);
CREATE UNIQUE INDEX leaves_idx ON leaves (idx);
CREATE INDEX leaves_pending ON leaves (pos) WHERE idx IS NULL;
CREATE INDEX leaves_subject ON leaves (org, subject, idx);

-- The stored hashes of the tree, in tlog's storage order.
CREATE TABLE hashes (
    idx  bigint PRIMARY KEY,
    hash bytea NOT NULL
);

-- One row: the newest checkpoint and the highest fence token seen.
CREATE TABLE log_state (
    id        bigint PRIMARY KEY CHECK (id = 1),
    size      bigint NOT NULL,
    root      bytea NOT NULL,
    note      bytea,
    published bigint NOT NULL,
    fence     bigint NOT NULL
);
INSERT INTO log_state (id, size, root, note, published, fence) VALUES (1, 0, decode(repeat('00', 32), 'hex'), NULL, 0, 0);
