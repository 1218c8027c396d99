// Package room creates rooms in LiveKit and in the records, mints what a
// participant needs to join, and records what happens in a room as durable,
// ordered events. LiveKit's webhooks are lossy and unordered, so they are only
// a hint: a reconciler compares LiveKit with the records, ends the rooms that
// LiveKit has lost, and opens those again that live although their record has
// ended.
//
// The package owns the records of kind rooms and their state table.
package room

import (
	"fmt"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"
	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"

	"github.com/openova-io/bp-relay/services/internal/change"
	"github.com/openova-io/bp-relay/services/internal/resource"
	"github.com/openova-io/bp-relay/services/records"
)

// rooms is the type of the resource.
func rooms() resource.Type {
	return resource.Type{Kind: records.Rooms, Pattern: "orgs/{org}/rooms/{room}", Missing: errorsv1.Reason_REASON_ROOM_NOT_FOUND}
}

// States of a room's record.
const (
	stateOpen  = "OPEN"
	stateEnded = "ENDED"
)

// Verbs on a room.
const (
	create = "create"
	join   = "join"
	end    = "end"    // LiveKit has ended or lost it
	remove = "remove" // DeleteRoom: it stays ended, also if LiveKit still runs it
	reopen = "reopen" // LiveKit runs it, although its record has ended
)

// states is the room's state table. The name of an ended room may be used
// again: the new room has another uid.
func states() change.Table {
	return change.Table{
		{From: "", Verb: create, To: stateOpen, Event: "room.created"},
		{From: stateEnded, Verb: create, To: stateOpen, Event: "room.created"},
		{From: stateOpen, Verb: join, To: stateOpen},
		{From: stateOpen, Verb: end, To: stateEnded, Event: "room.ended"},
		{From: stateEnded, Verb: end, To: stateEnded},
		{From: stateOpen, Verb: remove, To: stateEnded, Event: "room.ended"},
		{From: stateEnded, Verb: remove, To: stateEnded, Event: "room.removed"},
		{From: stateEnded, Verb: reopen, To: stateOpen, Event: "room.reopened"},
	}
}

// Reasons of a room's end.
const (
	deleted = "deleted"
	empty   = "empty"
	gone    = "gone_from_livekit"
)

// defaultEmptyTimeout is how long a room stays open without participants.
const defaultEmptyTimeout = 300 * time.Second

// document is the body of a room's record.
type document struct {
	UID             string        `json:"uid"`
	DisplayName     string        `json:"display_name,omitempty"`
	Metadata        string        `json:"metadata,omitempty"`
	MaxParticipants int32         `json:"max_participants,omitempty"`
	EmptyTimeout    time.Duration `json:"empty_timeout"`
	Opened          time.Time     `json:"opened"`
	Ended           time.Time     `json:"ended,omitzero"`
	EndReason       string        `json:"end_reason,omitempty"`
	// Reopened is when the reconciler opened the room again.
	Reopened time.Time `json:"reopened,omitzero"`
	// LiveKitSID is LiveKit's own id of the room, "" in older records.
	LiveKitSID string `json:"livekit_sid,omitempty"`
}

func newDocument(r *roomv1.Room) (document, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return document{}, fmt.Errorf("room uid: %w", err)
	}
	d := document{
		UID:             id.String(),
		DisplayName:     r.GetDisplayName(),
		Metadata:        r.GetMetadata(),
		MaxParticipants: r.GetMaxParticipants(),
		EmptyTimeout:    defaultEmptyTimeout,
		Opened:          time.Now().UTC(),
	}
	if r.GetEmptyTimeout() != nil {
		d.EmptyTimeout = r.GetEmptyTimeout().AsDuration()
	}
	return d, nil
}

// creation opens a room with this document.
func creation(d document, actor string) change.Step[document] {
	return change.Step[document]{Verb: create, Actor: actor, Edit: func(body *document) any {
		*body = d
		return map[string]string{"uid": d.UID}
	}}
}

// ending ends a room for a reason.
func ending(actor, reason string) change.Step[document] {
	return change.Step[document]{Verb: end, Actor: actor, Edit: func(body *document) any {
		body.Ended, body.EndReason = time.Now().UTC(), reason
		return map[string]string{"uid": body.UID, "reason": reason}
	}}
}

// removal ends a room for good, because a caller wants it.
func removal(actor string) change.Step[document] {
	step := ending(actor, deleted)
	step.Verb = remove
	return step
}

// reopening opens a room again that LiveKit still runs. It stays the same room.
func reopening() change.Step[document] {
	return change.Step[document]{Verb: reopen, Actor: change.Relay, Edit: func(body *document) any {
		was := body.EndReason
		body.Ended, body.EndReason, body.Reopened = time.Time{}, "", time.Now().UTC()
		return map[string]string{"uid": body.UID, "end_reason": was}
	}}
}

// message is the room as callers see it.
func message(rec records.Record) (*roomv1.Room, error) {
	d, err := resource.Body[document](rec)
	if err != nil {
		return nil, err
	}
	r := &roomv1.Room{
		Name: rec.Name, Uid: d.UID, State: roomv1.Room_STATE_OPEN,
		DisplayName: d.DisplayName, Metadata: d.Metadata, MaxParticipants: d.MaxParticipants,
		EmptyTimeout: durationpb.New(d.EmptyTimeout),
		CreateTime:   timestamppb.New(d.Opened), UpdateTime: timestamppb.New(rec.UpdateTime),
		EndReason: d.EndReason, Etag: resource.Etag(rec),
	}
	if !d.Reopened.IsZero() {
		r.ReopenTime = timestamppb.New(d.Reopened)
	}
	if rec.State == stateEnded {
		r.State = roomv1.Room_STATE_ENDED
		r.EndTime = timestamppb.New(d.Ended)
	}
	return r, nil
}
