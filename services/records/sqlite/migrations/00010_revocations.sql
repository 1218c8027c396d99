-- +goose Up
-- Tokens that are refused before they expire; see package revocation. The record
-- "revocations" itself changes with each of them.

CREATE TABLE revocations (
    name        TEXT PRIMARY KEY,
    org         TEXT NOT NULL,
    parent      TEXT NOT NULL,
    state       TEXT NOT NULL,
    version     INTEGER NOT NULL,
    create_time INTEGER NOT NULL,
    update_time INTEGER NOT NULL,
    body        TEXT NOT NULL
);
CREATE INDEX revocations_org ON revocations (org, name);
CREATE INDEX revocations_parent ON revocations (parent, name);
CREATE INDEX revocations_state ON revocations (state, name);
