-- +goose Up
-- Tokens that are refused before they expire; see package revocation. The record
-- "revocations" itself changes with each of them.

CREATE TABLE revocations (
    name        text COLLATE "C" PRIMARY KEY,
    org         text COLLATE "C" NOT NULL,
    parent      text COLLATE "C" NOT NULL,
    state       text COLLATE "C" NOT NULL,
    version     bigint NOT NULL,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    body        json NOT NULL
);
CREATE INDEX revocations_org ON revocations (org, name);
CREATE INDEX revocations_parent ON revocations (parent, name);
CREATE INDEX revocations_state ON revocations (state, name);
