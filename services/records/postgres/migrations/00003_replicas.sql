-- +goose Up
-- The heartbeats of the processes that share the records; see internal/replica.

CREATE TABLE replicas (
    name        text COLLATE "C" PRIMARY KEY,
    org         text COLLATE "C" NOT NULL,
    parent      text COLLATE "C" NOT NULL,
    state       text COLLATE "C" NOT NULL,
    version     bigint NOT NULL,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    body        json NOT NULL
);
CREATE INDEX replicas_org ON replicas (org, name);
CREATE INDEX replicas_parent ON replicas (parent, name);
CREATE INDEX replicas_state ON replicas (state, name);
