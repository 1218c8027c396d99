-- +goose Up
-- Safety states that last until an operator answers them; see package alarm.

CREATE TABLE alarms (
    name        TEXT PRIMARY KEY,
    org         TEXT NOT NULL,
    parent      TEXT NOT NULL,
    state       TEXT NOT NULL,
    version     INTEGER NOT NULL,
    create_time INTEGER NOT NULL,
    update_time INTEGER NOT NULL,
    body        TEXT NOT NULL
);
CREATE INDEX alarms_org ON alarms (org, name);
CREATE INDEX alarms_parent ON alarms (parent, name);
CREATE INDEX alarms_state ON alarms (state, name);
