-- +goose Up
-- Background work with its progress; see package job.

CREATE TABLE jobs (
    name        text COLLATE "C" PRIMARY KEY,
    org         text COLLATE "C" NOT NULL,
    parent      text COLLATE "C" NOT NULL,
    state       text COLLATE "C" NOT NULL,
    version     bigint NOT NULL,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    body        json NOT NULL
);
CREATE INDEX jobs_org ON jobs (org, name);
CREATE INDEX jobs_parent ON jobs (parent, name);
CREATE INDEX jobs_state ON jobs (state, name);
