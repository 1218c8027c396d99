-- +goose Up
-- Safety states that last until an operator answers them; see package alarm.

CREATE TABLE alarms (
    name        text COLLATE "C" PRIMARY KEY,
    org         text COLLATE "C" NOT NULL,
    parent      text COLLATE "C" NOT NULL,
    state       text COLLATE "C" NOT NULL,
    version     bigint NOT NULL,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    body        json NOT NULL
);
CREATE INDEX alarms_org ON alarms (org, name);
CREATE INDEX alarms_parent ON alarms (parent, name);
CREATE INDEX alarms_state ON alarms (state, name);
