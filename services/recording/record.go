package recording

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	recordingv1 "github.com/openova-io/bp-relay/gen/relay/recording/v1"

	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/format/manifest"
	"github.com/openova-io/bp-relay/services/internal/change"
	"github.com/openova-io/bp-relay/services/internal/resource"
	"github.com/openova-io/bp-relay/services/records"
)

// maxGaps bounds the gaps in a recording's record; the manifest has them all.
const maxGaps = 500

// document is the body of a recording's record. Its parent is the room.
type document struct {
	Room string `json:"room"`
	// RoomUID distinguishes the recorded room from a later one of its name.
	RoomUID   string       `json:"room_uid,omitempty"`
	Mode      capture.Mode `json:"mode"`
	Retention string       `json:"retention"`
	Actor     string       `json:"actor"`
	Capture   string       `json:"capture"`
	// Replica is the process that has the recording, Epoch grows with each one.
	Replica string `json:"replica,omitempty"`
	Epoch   int64  `json:"epoch,omitempty"`
	// Request is the start's request id; the answer is remembered for it once
	// the recording is active.
	Request   *records.RequestKey `json:"request,omitempty"`
	Created   time.Time           `json:"created"`
	Start     time.Time           `json:"start,omitzero"`
	End       time.Time           `json:"end,omitzero"`
	EndReason string              `json:"end_reason,omitempty"`
	Error     string              `json:"error,omitempty"`
	Manifest  string              `json:"manifest_sha256,omitempty"`
	// Tracks and Gaps are set when the recording is stored.
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

// message is the recording as callers see it.
func message(rec records.Record) (*recordingv1.Recording, error) {
	d, err := resource.Body[document](rec)
	if err != nil {
		return nil, err
	}
	m := &recordingv1.Recording{
		Name: rec.Name, Room: d.Room, Mode: recordingv1.Mode_MODE_BEST_EFFORT, RetentionClass: d.Retention,
		State:      recordingv1.Recording_State(recordingv1.Recording_State_value["STATE_"+rec.State]),
		CreateTime: timestamppb.New(d.Created), StartTime: stamp(d.Start), EndTime: stamp(d.End),
		EndReason: d.EndReason, Error: d.Error, Capture: d.Capture, ManifestSha256: d.Manifest,
		Etag: resource.Etag(rec),
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

// live adds the tracks of a capture that is not sealed yet.
func live(m *recordingv1.Recording, info capture.Info) {
	for _, s := range info.Streams {
		m.Tracks = append(m.Tracks, &recordingv1.Track{
			Stream: s.Name, TrackSid: s.Attributes["track_sid"], ParticipantIdentity: s.Attributes["participant_identity"],
			MediaType: s.MediaType, SizeBytes: s.Bytes,
		})
	}
}

// fill takes tracks and gaps from the manifest.
func (d *document) fill(m manifest.Manifest) {
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

// busy returns the running recording of a room, or nil.
func busy(ctx context.Context, tx records.Tx, room string) (*records.Record, error) {
	list, err := tx.List(ctx, records.Query{Kind: records.Recordings, Org: resource.Org(room), Parent: room, States: running(), Limit: 1})
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return &list[0], nil
}

// beginning creates a recording with this document.
func beginning(d document) change.Step[document] {
	return change.Step[document]{Verb: start, Actor: d.Actor, Edit: func(body *document) any {
		*body = d
		return map[string]any{"room": d.Room, "mode": d.Mode, "retention": d.Retention, "capture": d.Capture}
	}}
}

// step applies a verb to a recording, whose document edit changes.
func step(verb, actor string, edit func(*document)) change.Step[document] {
	return change.Step[document]{Verb: verb, Actor: actor, Edit: func(d *document) any {
		edit(d)
		detail := map[string]any{"room": d.Room, "capture": d.Capture}
		for k, v := range map[string]string{"end_reason": d.EndReason, "error": d.Error, "manifest_sha256": d.Manifest} {
			if v != "" {
				detail[k] = v
			}
		}
		return detail
	}}
}

// insert writes the record of a new recording; RECORDING_RUNNING if its room
// has one.
func insert(ctx context.Context, tx records.Tx, name string, d document) error {
	// The room's record orders the starts of a room.
	if _, err := tx.Lock(ctx, records.Rooms, d.Room); errors.Is(err, records.ErrNotFound) {
		return errRoomGone(d.Room)
	} else if err != nil {
		return err
	}
	if other, err := busy(ctx, tx, d.Room); err != nil {
		return err
	} else if other != nil {
		return errRunning(d.Room, other.Name)
	}
	rec := records.Record{Kind: records.Recordings, Name: name, Org: resource.Org(name), Parent: d.Room}
	_, err := change.Apply(ctx, tx, states(), rec, beginning(d))
	return err
}

// ownedBy reports whether that process has had the recording since that epoch.
func (d *document) ownedBy(replica string, epoch int64) bool {
	return d.Replica == replica && d.Epoch == epoch
}

// take makes this process the owner of a recording, if its owner is still the one
// in was. It fails with records.ErrFenced if not. It is no change of the
// recording itself, so it has neither event nor leaf.
func (s *Service) take(ctx context.Context, name string, was document) (rec records.Record, d document, err error) {
	me := s.cfg.Captures.Replica().ID()
	err = s.cfg.Records.Update(ctx, func(tx records.Tx) (err error) {
		if rec, err = tx.Lock(ctx, records.Recordings, name); err != nil {
			return err
		}
		if d, err = resource.Body[document](rec); err != nil {
			return err
		}
		switch {
		case d.Replica == me: // also if an earlier call succeeded without knowing it
			return nil
		case !d.ownedBy(was.Replica, was.Epoch):
			return fmt.Errorf("%w: %s has another owner", records.ErrFenced, name)
		}
		d.Replica, d.Epoch = me, d.Epoch+1
		if rec.Body, err = resource.Encode(rec.Body, d); err != nil {
			return err
		}
		rec, err = tx.Update(ctx, rec)
		return err
	})
	return rec, d, err
}

// advance applies a step to a recording.
func (s *Service) advance(ctx context.Context, name string, st change.Step[document]) (records.Record, error) {
	return change.Run(ctx, s.cfg.Records, recordings(), states(), name, st)
}

// activate makes a recording ACTIVE, and remembers the answer to the call that
// started it in the same transaction.
func (s *Service) activate(ctx context.Context, name, actor string, from time.Time) (rec records.Record, err error) {
	err = s.cfg.Records.Update(ctx, func(tx records.Tx) error {
		was, err := recordings().Get(ctx, tx, name)
		if err != nil {
			return err
		}
		rec, err = change.Apply(ctx, tx, states(), was, step(activate, actor, func(d *document) { d.Start = from }))
		if err != nil || rec.Version == was.Version {
			return err
		}
		return remember(ctx, tx, rec)
	})
	return rec, err
}

// remember keeps the answer to the start, if it had a request id.
func remember(ctx context.Context, tx records.Tx, rec records.Record) error {
	d, err := resource.Body[document](rec)
	if err != nil || d.Request == nil {
		return err
	}
	m, err := message(rec)
	if err != nil {
		return err
	}
	answer := &recordingv1.StartRecordingResponse{Recording: m}
	if known, err := resource.Replay(ctx, tx, *d.Request, new(recordingv1.StartRecordingResponse)); known || err != nil {
		return err
	}
	return resource.Remember(ctx, tx, *d.Request, answer)
}

// get reads one recording's record.
func (s *Service) get(ctx context.Context, name string) (records.Record, error) {
	return recordings().View(ctx, s.cfg.Records, name)
}
