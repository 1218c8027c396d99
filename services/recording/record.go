package recording

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"
	recordingv1 "github.com/openova-io/bp-relay/gen/relay/recording/v1"

	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/capture/manifest"
	"github.com/openova-io/bp-relay/services/internal/act"
	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/store"
)

// maxGaps bounds the gaps in a recording's record; the manifest has them all.
const maxGaps = 500

// document is the body of a recording's record. Its parent is the room.
type document struct {
	Room string `json:"room"`
	// RoomUID tells the room that is recorded from a later one of its name.
	RoomUID   string       `json:"room_uid,omitempty"`
	Mode      capture.Mode `json:"mode"`
	Retention string       `json:"retention"`
	Actor     string       `json:"actor"`
	Capture   string       `json:"capture"`
	// Request is the start's request id: the answer is remembered for it once
	// there is one.
	Request   *store.RequestKey `json:"request,omitempty"`
	Created   time.Time         `json:"created"`
	Start     time.Time         `json:"start,omitzero"`
	End       time.Time         `json:"end,omitzero"`
	EndReason string            `json:"end_reason,omitempty"`
	Error     string            `json:"error,omitempty"`
	Manifest  string            `json:"manifest_sha256,omitempty"`
	// Tracks and Gaps are set when it is stored.
	Tracks []track `json:"tracks,omitempty"`
	Gaps   []gap   `json:"gaps,omitempty"`
}

type track struct {
	Stream    string        `json:"stream"`
	SID       string        `json:"track_sid"`
	Identity  string        `json:"participant_identity"`
	MediaType string        `json:"media_type"`
	Size      int64         `json:"size"`
	Duration  time.Duration `json:"duration"`
}

type gap struct {
	Stream string    `json:"stream"`
	From   time.Time `json:"from"`
	To     time.Time `json:"to,omitzero"`
	Reason string    `json:"reason"`
}

func parse(rec store.Record) (document, error) {
	var d document
	if err := json.Unmarshal(rec.Body, &d); err != nil {
		return d, fmt.Errorf("recording record %s: %w", rec.Name, err)
	}
	return d, nil
}

// message is the recording as callers see it.
func message(rec store.Record) (*recordingv1.Recording, error) {
	d, err := parse(rec)
	if err != nil {
		return nil, err
	}
	m := &recordingv1.Recording{
		Name: rec.Name, Room: d.Room, Mode: recordingv1.Mode_MODE_BEST_EFFORT, RetentionClass: d.Retention,
		State:      recordingv1.Recording_State(recordingv1.Recording_State_value["STATE_"+rec.State]),
		CreateTime: timestamppb.New(d.Created), StartTime: stamp(d.Start), EndTime: stamp(d.End),
		EndReason: d.EndReason, Error: d.Error, Capture: d.Capture, ManifestSha256: d.Manifest,
		Etag: strconv.FormatInt(rec.Version, 10),
	}
	if d.Mode == capture.Required {
		m.Mode = recordingv1.Mode_MODE_REQUIRED
	}
	for _, t := range d.Tracks {
		m.Tracks = append(m.Tracks, &recordingv1.Track{
			Stream: t.Stream, TrackSid: t.SID, ParticipantIdentity: t.Identity, MediaType: t.MediaType,
			SizeBytes: t.Size, Duration: durationpb.New(t.Duration),
		})
	}
	for _, g := range d.Gaps {
		m.Gaps = append(m.Gaps, &recordingv1.Gap{Stream: g.Stream, StartTime: stamp(g.From), EndTime: stamp(g.To), Reason: g.Reason})
	}
	return m, nil
}

func stamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// live adds what is recorded so far.
func live(m *recordingv1.Recording, info capture.Info) {
	for _, s := range info.Streams {
		m.Tracks = append(m.Tracks, &recordingv1.Track{
			Stream: s.Name, TrackSid: s.Attributes["track_sid"], ParticipantIdentity: s.Attributes["participant_identity"],
			MediaType: s.MediaType, SizeBytes: s.Bytes,
		})
	}
}

// sealed takes tracks and gaps from the manifest.
func (d *document) sealed(m manifest.Manifest) {
	d.Tracks, d.Gaps = nil, nil
	for _, s := range m.Streams {
		t := track{Stream: s.Name, SID: s.Attributes["track_sid"], Identity: s.Attributes["participant_identity"], MediaType: s.MediaType, Size: s.Bytes}
		if n := len(s.Segments); n > 0 {
			t.Duration = s.Segments[n-1].End.Sub(s.Segments[0].Start)
		}
		d.Tracks = append(d.Tracks, t)
		for _, g := range s.Gaps {
			if len(d.Gaps) < maxGaps {
				d.Gaps = append(d.Gaps, gap{Stream: s.Name, From: g.From, To: g.To, Reason: g.Reason})
			}
		}
	}
}

// busy is the recording that a room has under way, or nil.
func busy(ctx context.Context, tx store.Tx, room string) (*store.Record, error) {
	list, err := tx.List(ctx, store.Query{Kind: store.Recordings, Org: act.Org(room), Parent: room, States: running(), Limit: 1})
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return &list[0], nil
}

// insert makes the record of a new recording.
func insert(ctx context.Context, tx store.Tx, name string, d document) (store.Record, error) {
	// Starts go one after another by a lease, which a bus can forget.
	if other, err := busy(ctx, tx, d.Room); err != nil {
		return store.Record{}, err
	} else if other != nil {
		return store.Record{}, errRunning(d.Room, other.Name)
	}
	body, err := json.Marshal(d)
	if err != nil {
		return store.Record{}, fmt.Errorf("recording body: %w", err)
	}
	rec, err := tx.Insert(ctx, store.Record{Kind: store.Recordings, Name: name, Org: act.Org(name), Parent: d.Room, State: string(stateStarting), Body: body})
	if err != nil {
		return rec, err
	}
	return rec, act.Note(ctx, tx, "recording.starting", d.Actor, name, map[string]any{
		"room": d.Room, "mode": d.Mode, "retention": d.Retention, "capture": d.Capture,
	})
}

// change moves a recording on, in one transaction with its event and its
// leaf. A recording that is in that state already is left as it is. edit may
// be nil; then, where it is not nil, runs in the same transaction.
func (s *Service) change(ctx context.Context, name, actor string, to state, edit func(*document), then func(tx store.Tx, rec store.Record, d document) error) (store.Record, error) {
	var rec store.Record
	for {
		err := s.cfg.Store.Update(ctx, func(tx store.Tx) (err error) {
			if rec, err = tx.Get(ctx, store.Recordings, name); err != nil {
				return err
			}
			rec, err = move(ctx, tx, rec, actor, to, edit, then)
			return err
		})
		if errors.Is(err, store.ErrConflict) && ctx.Err() == nil {
			continue // somebody else changed it meanwhile
		}
		return rec, missing(name, err)
	}
}

func move(ctx context.Context, tx store.Tx, rec store.Record, actor string, to state, edit func(*document), then func(tx store.Tx, rec store.Record, d document) error) (store.Record, error) {
	from := state(rec.State)
	if from == to {
		return rec, nil
	}
	if !from.can(to) {
		return rec, &stateError{name: rec.Name, from: from, to: to}
	}
	d, err := parse(rec)
	if err != nil {
		return rec, err
	}
	if edit != nil {
		edit(&d)
	}
	rec.State = string(to)
	if rec.Body, err = json.Marshal(d); err != nil {
		return rec, fmt.Errorf("recording body: %w", err)
	}
	if rec, err = tx.Update(ctx, rec); err != nil {
		return rec, err
	}
	detail := map[string]any{"room": d.Room, "capture": d.Capture}
	for k, v := range map[string]string{"end_reason": d.EndReason, "error": d.Error, "manifest_sha256": d.Manifest} {
		if v != "" {
			detail[k] = v
		}
	}
	if err := act.Note(ctx, tx, "recording."+strings.ToLower(string(to)), actor, rec.Name, detail); err != nil {
		return rec, err
	}
	if then != nil {
		return rec, then(tx, rec, d)
	}
	return rec, nil
}

// get reads one recording's record.
func (s *Service) get(ctx context.Context, name string) (store.Record, error) {
	var rec store.Record
	err := s.cfg.Store.View(ctx, func(tx store.Tx) (err error) {
		rec, err = tx.Get(ctx, store.Recordings, name)
		return err
	})
	return rec, missing(name, err)
}

func missing(name string, err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return apierr.NotFound(errorsv1.Reason_REASON_RECORDING_NOT_FOUND, name)
	}
	return err
}
