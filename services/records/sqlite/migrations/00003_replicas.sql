-- +goose Up
-- The heartbeats of the processes that share the records; see internal/replica.

CREATE TABLE replicas (
    name        TEXT PRIMARY KEY,
    org         TEXT NOT NULL,
    parent      TEXT NOT NULL,
    state       TEXT NOT NULL,
    version     INTEGER NOT NULL,
    create_time INTEGER NOT NULL,
    update_time INTEGER NOT NULL,
    body        TEXT NOT NULL
);
CREATE INDEX replicas_org ON replicas (org, name);
CREATE INDEX replicas_parent ON replicas (parent, name);
CREATE INDEX replicas_state ON replicas (state, name);
