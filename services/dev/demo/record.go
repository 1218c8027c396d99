package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	recordingv1 "github.com/openova-io/bp-relay/gen/relay/recording/v1"
)

const (
	// storedWithin bounds storing and sealing after a stop.
	storedWithin = 90 * time.Second
	// startSlack is how much shorter than the recording a track may be.
	startSlack = time.Second
)

// record records the call, waits until it is stored, and checks every track.
func (r *run) record(ctx context.Context) error {
	started, err := r.api.recordings.StartRecording(r.api.as(ctx, backend), &recordingv1.StartRecordingRequest{
		Parent: r.org(), Room: r.call.room, RequestId: uuid.NewString(),
	})
	if err != nil {
		return err
	}
	name := started.GetRecording().GetName()
	running := true
	r.later(func(ctx context.Context) error {
		if !running {
			return nil
		}
		_, err := r.api.recordings.StopRecording(r.api.as(ctx, backend), &recordingv1.StopRecordingRequest{Name: name})
		return err
	})
	if got := started.GetRecording().GetState(); got != recordingv1.Recording_STATE_ACTIVE {
		return fmt.Errorf("%s is %s after its start, want ACTIVE: %s", name, got, started.GetRecording().GetError())
	}
	flows, err := r.flows(ctx, name)
	if err != nil {
		return err
	}
	r.story.ok("%s runs: a hidden subscriber takes each track as it is sent, all of them %d ms after the start", name, flows.Milliseconds())
	length := time.Duration(r.cfg.Seconds) * time.Second
	err = r.story.during(fmt.Sprintf("recording %d s", r.cfg.Seconds), func() error { return r.hold(ctx, length) })
	if err != nil {
		return err
	}
	if _, err := r.api.recordings.StopRecording(r.api.as(ctx, backend), &recordingv1.StopRecordingRequest{Name: name}); err != nil {
		return err
	}
	running = false
	stopped := time.Now()
	var rec *recordingv1.Recording
	err = r.story.during("storing, reading back and sealing", func() error {
		return until(ctx, storedWithin, name+" stored", func() (bool, error) {
			out, err := r.api.recordings.GetRecording(r.api.as(ctx, backend), &recordingv1.GetRecordingRequest{Name: name})
			if err != nil {
				return false, err
			}
			rec = out.GetRecording()
			if rec.GetState() == recordingv1.Recording_STATE_FAILED {
				return false, fmt.Errorf("the recording failed: %s", rec.GetError())
			}
			return rec.GetState() == recordingv1.Recording_STATE_STORED, nil
		})
	})
	if err != nil {
		return err
	}
	r.story.ok("stopped, stored, read back and sealed %.1f s later; %s", time.Since(stopped).Seconds(), gaps(rec))
	r.story.note("manifest sha256 %s", rec.GetManifestSha256())
	r.bags = append(r.bags, exported{title: "the call", file: "call", capture: rec.GetCapture()})
	return r.tracks(ctx, rec, length-startSlack)
}

// flows waits until every track is recorded, and returns how long that took.
func (r *run) flows(ctx context.Context, name string) (time.Duration, error) {
	began := time.Now()
	err := until(ctx, connectWithin, "every track in the recording", func() (bool, error) {
		out, err := r.api.recordings.GetRecording(r.api.as(ctx, backend), &recordingv1.GetRecordingRequest{Name: name})
		return len(out.GetRecording().GetTracks()) >= 2*len(r.call.participants), err
	})
	return time.Since(began), err
}

// hold waits while the participants publish.
func (r *run) hold(ctx context.Context, length time.Duration) error {
	end := time.Now().Add(length)
	return until(ctx, length+time.Second, "the recording's length", func() (bool, error) {
		return !time.Now().Before(end), r.publishing()
	})
}

func gaps(rec *recordingv1.Recording) string {
	later := slices.DeleteFunc(slices.Clone(rec.GetGaps()), func(g *recordingv1.Gap) bool { return g.GetReason() == "starting" })
	if len(later) == 0 {
		return "no gaps after each track's first frame"
	}
	lines := []string{fmt.Sprintf("%d gaps stated", len(later))}
	for _, g := range later {
		lines = append(lines, fmt.Sprintf("%s: %s, %s to %s", g.GetStream(), g.GetReason(), g.GetStartTime().AsTime().Format(time.RFC3339Nano), g.GetEndTime().AsTime().Format(time.RFC3339Nano)))
	}
	return strings.Join(lines, "\n")
}

// tracks downloads every track and checks it with ffprobe and ffmpeg.
func (r *run) tracks(ctx context.Context, rec *recordingv1.Recording, least time.Duration) error {
	kinds := map[string]int{}
	var errs []error
	for _, t := range rec.GetTracks() {
		kind, err := kindOf(t)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		base := t.GetParticipantIdentity() + "-" + kind
		if kinds[base]++; kinds[base] > 1 {
			errs = append(errs, fmt.Errorf("%s has more than one file: the recorder was disconnected in between", base))
			base += fmt.Sprintf("-%d", kinds[base])
		}
		if err := r.track(ctx, rec.GetName(), t, kind, base+".webm", least); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", base, err))
		}
	}
	for _, p := range r.call.participants {
		for _, kind := range []string{video, audio} {
			if base := p.identity + "-" + kind; kinds[base] == 0 {
				errs = append(errs, fmt.Errorf("%s was not recorded", base))
			}
		}
	}
	return errors.Join(errs...)
}

func (r *run) track(ctx context.Context, recording string, t *recordingv1.Track, kind, name string, least time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	stream, err := r.api.recordings.ReadTrack(r.api.as(ctx, auditor), &recordingv1.ReadTrackRequest{Name: recording, Stream: t.GetStream()})
	if err != nil {
		return explain("ReadTrack", err)
	}
	n, sum, err := download(r.file(name), "ReadTrack", func() ([]byte, error) {
		m, err := stream.Recv()
		return m.GetData(), err
	})
	if err != nil {
		return err
	}
	if n != t.GetSizeBytes() {
		return fmt.Errorf("received %d bytes, but %d are recorded", n, t.GetSizeBytes())
	}
	facts, err := r.probe(ctx, r.file(name), kind, least)
	if err != nil {
		return err
	}
	if err := r.decode(ctx, r.file(name)); err != nil {
		return err
	}
	r.story.ok("%-14s  %s, %s, decoded to its end without a complaint", name, facts, size(n))
	r.story.note("sha256 %s", sum)
	if kind == video {
		return r.still(ctx, r.file(name), r.cfg.Seconds/2)
	}
	return nil
}
