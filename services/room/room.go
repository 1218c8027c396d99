// Package room creates rooms in LiveKit and in our records, lets participants
// in with short-lived tokens and TURN servers of their own, and turns what
// happens into durable, ordered events. LiveKit's webhooks are lossy and
// unordered, so they are only a hint: a reconciler compares LiveKit with our
// records and closes what ended without a word.
package room

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"
	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"

	"github.com/openova-io/bp-relay/services/internal/act"
	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/store"
)

// States of a room's record.
const (
	stateOpen  = "OPEN"
	stateEnded = "ENDED"
)

// defaultEmptyTimeout is how long a room stays open with nobody in it.
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

func parse(rec store.Record) (document, error) {
	var d document
	if err := json.Unmarshal(rec.Body, &d); err != nil {
		return d, fmt.Errorf("room record %s: %w", rec.Name, err)
	}
	return d, nil
}

// message is the room as callers see it.
func message(rec store.Record) (*roomv1.Room, error) {
	d, err := parse(rec)
	if err != nil {
		return nil, err
	}
	r := &roomv1.Room{
		Name: rec.Name, Uid: d.UID, State: roomv1.Room_STATE_OPEN,
		DisplayName: d.DisplayName, Metadata: d.Metadata, MaxParticipants: d.MaxParticipants,
		EmptyTimeout: durationpb.New(d.EmptyTimeout),
		CreateTime:   timestamppb.New(d.Opened), UpdateTime: timestamppb.New(rec.UpdateTime),
		EndReason: d.EndReason, Etag: etag(rec),
	}
	if rec.State == stateEnded {
		r.State = roomv1.Room_STATE_ENDED
		r.EndTime = timestamppb.New(d.Ended)
	}
	return r, nil
}

func etag(rec store.Record) string { return strconv.FormatInt(rec.Version, 10) }

// end marks the room ended in the given transaction; nothing where it is.
func end(ctx context.Context, tx store.Tx, rec store.Record, actor, reason string) (store.Record, error) {
	if rec.State == stateEnded {
		return rec, nil
	}
	d, err := parse(rec)
	if err != nil {
		return rec, err
	}
	d.Ended, d.EndReason = time.Now().UTC(), reason
	if rec.Body, err = json.Marshal(d); err != nil {
		return rec, fmt.Errorf("room body: %w", err)
	}
	rec.State = stateEnded
	if rec, err = tx.Update(ctx, rec); err != nil {
		return rec, err
	}
	return rec, act.Note(ctx, tx, "room.ended", actor, rec.Name, map[string]string{"uid": d.UID, "reason": reason})
}

// reopened says whether the room was ended and opened again between two looks
// at its record.
func reopened(then, now store.Record) (bool, error) {
	a, err := parse(then)
	if err != nil {
		return false, err
	}
	b, err := parse(now)
	return a.UID != b.UID, err
}

// get reads one room's record.
func (s *Service) get(ctx context.Context, name string) (store.Record, error) {
	var rec store.Record
	err := s.cfg.Store.View(ctx, func(tx store.Tx) (err error) {
		rec, err = tx.Get(ctx, store.Rooms, name)
		return err
	})
	return rec, missing(name, err)
}

func missing(name string, err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return apierr.NotFound(errorsv1.Reason_REASON_ROOM_NOT_FOUND, name)
	}
	return err
}
