-- +goose Up
-- Background work with its progress; see package job.

CREATE TABLE jobs (
    name        TEXT PRIMARY KEY,
    org         TEXT NOT NULL,
    parent      TEXT NOT NULL,
    state       TEXT NOT NULL,
    version     INTEGER NOT NULL,
    create_time INTEGER NOT NULL,
    update_time INTEGER NOT NULL,
    body        TEXT NOT NULL
);
CREATE INDEX jobs_org ON jobs (org, name);
CREATE INDEX jobs_parent ON jobs (parent, name);
CREATE INDEX jobs_state ON jobs (state, name);
