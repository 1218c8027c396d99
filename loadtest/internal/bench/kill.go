package bench

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	evidencev1 "github.com/openova-io/bp-relay/gen/relay/evidence/v1"
	recordingv1 "github.com/openova-io/bp-relay/gen/relay/recording/v1"
	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"

	"github.com/openova-io/bp-relay/loadtest/internal/child"
	"github.com/openova-io/bp-relay/loadtest/internal/measure"
	"github.com/openova-io/bp-relay/services/blob"
)

// killAfter is the recording time before the SIGKILL and after the restart: a
// few segments each.
const killAfter = 8 * time.Second

// killedRecorder is the case "kill": a relay that records a room is killed with
// SIGKILL and restarted immediately. The results are the longest gap in the
// files, including the time without a relay, and the number of segments that
// were stored before the kill and are missing in the sealed, verified export.
func killedRecorder(ctx context.Context, l *Lab) (rows []measure.Result, err error) {
	var missing, before, unavailable, lost measure.Sample
	var segments int
	rounds := 2
	if l.cfg.Quick {
		rounds = 1
	}
	for round := range rounds {
		l.say("      round %d of %d", round+1, rounds)
		k, err := l.killOnce(ctx, killAfter+time.Duration(round)*1700*time.Millisecond)
		if err != nil {
			return nil, err
		}
		missing, before = append(missing, k.missing.Seconds()), append(before, k.before.Seconds())
		unavailable, lost = append(unavailable, k.unavailable.Seconds()), append(lost, float64(k.lost))
		segments += k.acknowledged
	}
	worst := measure.Of("kill.media_lost", "s", missing)
	worst.Value = measure.Number(missing.Quantile(1))
	worst = worst.Judge(measure.AtMost, 2)
	worst.Note = fmt.Sprintf("the longest gap in any track, worst of the rounds; at most %.2f s of a gap were before the SIGKILL, and the API was unavailable for up to %.2f s",
		before.Quantile(1), unavailable.Quantile(1))
	count := measure.Of("kill.segments_lost", "segments", lost)
	count.Value = measure.Number(lost.Quantile(1))
	count = count.Judge(measure.AtMost, 0)
	count.Note = fmt.Sprintf("of %d segments that were stored before the kills; each export passed relay verify", segments)
	return []measure.Result{worst, count}, nil
}

// killed is the effect of one kill.
type killed struct {
	// at is the time of the SIGKILL, unavailable how long the API was unavailable.
	at          time.Time
	unavailable time.Duration
	// missing is the longest gap, before the part of it before the SIGKILL.
	missing, before    time.Duration
	acknowledged, lost int
}

// killOnce kills a relay that has recorded for the given time.
func (l *Lab) killOnce(ctx context.Context, after time.Duration) (k killed, err error) {
	dir, err := l.scratch("kill")
	if err != nil {
		return k, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	// No TURN gateway: publishers are on the same host.
	start := func() (*relayProcess, error) {
		return l.startRelay(ctx, filepath.Join(dir, "relay"), "--turn.gateway", "")
	}
	p, err := start()
	if err != nil {
		return k, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	room, err := roomv1.NewRoomServiceClient(p.conn).CreateRoom(ctx, &roomv1.CreateRoomRequest{Parent: "orgs/acme", Room: &roomv1.Room{}})
	if err != nil {
		return k, fmt.Errorf("create room: %w", err)
	}
	at := sfu{Signal: l.lk.SignalURL, Key: l.lk.Key, Secret: l.lk.Secret, Room: room.GetRoom().GetName()}
	source, err := child.Again(ctx, "publish", publishConfig{SFU: at, Count: 2}, nil)
	if err != nil {
		return k, err
	}
	defer func() { err = errors.Join(err, source.Stop()) }()
	started, err := recordingv1.NewRecordingServiceClient(p.conn).StartRecording(ctx, &recordingv1.StartRecordingRequest{Parent: "orgs/acme", Room: at.Room})
	if err != nil {
		return k, fmt.Errorf("start recording: %w", err)
	}
	name := started.GetRecording().GetName()
	if _, err := p.await(ctx, name, recordingv1.Recording_STATE_ACTIVE); err != nil {
		return k, err
	}
	if err := sleep(ctx, after); err != nil {
		return k, err
	}
	stored, err := l.segments(ctx, started.GetRecording().GetCapture())
	if err != nil {
		return k, err
	}
	k.acknowledged = len(stored)
	if k.acknowledged == 0 {
		return k, fmt.Errorf("no segment was stored within %s", after)
	}
	k.at = time.Now()
	if err := p.kill(); err != nil {
		return k, err
	}
	next, err := start()
	if err != nil {
		return k, fmt.Errorf("after the kill: %w", err)
	}
	p, k.unavailable = next, time.Since(k.at)
	if err := sleep(ctx, killAfter); err != nil {
		return k, err
	}
	return k, k.judge(ctx, l, p, name, dir, stored)
}

// judge stops the recording and checks what was recorded.
func (k *killed) judge(ctx context.Context, l *Lab, p *relayProcess, name, dir string, stored []string) error {
	recordings := recordingv1.NewRecordingServiceClient(p.conn)
	if _, err := recordings.StopRecording(ctx, &recordingv1.StopRecordingRequest{Name: name}); err != nil {
		return fmt.Errorf("stop recording: %w", err)
	}
	rec, err := p.await(ctx, name, recordingv1.Recording_STATE_STORED)
	if err != nil {
		return err
	}
	if len(rec.GetTracks()) != 4 {
		return fmt.Errorf("%d tracks were recorded instead of 4", len(rec.GetTracks()))
	}
	for _, t := range rec.GetTracks() {
		file := filepath.Join(dir, t.GetStream()+".webm")
		if err := readTrack(ctx, recordings, name, t.GetStream(), file); err != nil {
			return err
		}
		from, gap, err := l.gap(ctx, file)
		if err != nil {
			return err
		}
		if gap > k.missing {
			// A file's time counts from the recording's start.
			k.missing, k.before = gap, k.at.Sub(rec.GetStartTime().AsTime().Add(from))
		}
	}
	files, err := l.exportVerified(ctx, p, rec.GetCapture(), filepath.Join(dir, "bag.tar"))
	if err != nil {
		return err
	}
	for _, key := range stored {
		if !slices.ContainsFunc(files, func(f string) bool { return strings.HasSuffix(f, path.Join("segments", key)) }) {
			k.lost++
		}
	}
	return nil
}

// await polls a recording until it is in a state.
func (p *relayProcess) await(ctx context.Context, name string, want recordingv1.Recording_State) (*recordingv1.Recording, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 30*time.Second, fmt.Errorf("the recording was not %s after 30 s", want))
	defer cancel()
	for {
		got, err := recordingv1.NewRecordingServiceClient(p.conn).GetRecording(ctx, &recordingv1.GetRecordingRequest{Name: name})
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case err != nil:
			return nil, fmt.Errorf("get recording: %w", err)
		case got.GetRecording().GetState() == want:
			return got.GetRecording(), nil
		case got.GetRecording().GetState() == recordingv1.Recording_STATE_FAILED:
			return nil, fmt.Errorf("the recording failed: %s", got.GetRecording().GetError())
		}
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// segments lists the stored segments of a capture as "stream/file".
func (l *Lab) segments(ctx context.Context, capture string) ([]string, error) {
	part := strings.Split(capture, "/")
	if len(part) != 4 {
		return nil, fmt.Errorf("%q is not a capture", capture)
	}
	store, err := objectsOf(l.s3).open(nil)
	if err != nil {
		return nil, err
	}
	var keys []string
	prefix := path.Join("captures", part[1], part[3]) + "/"
	err = store.List(ctx, bucket, prefix, func(o blob.Object) error {
		if strings.HasSuffix(o.Key, ".age") {
			keys = append(keys, strings.TrimPrefix(o.Key, prefix))
		}
		return nil
	})
	return keys, errors.Join(err, store.Close())
}

// readTrack downloads one track.
func readTrack(ctx context.Context, recordings recordingv1.RecordingServiceClient, name, stream, file string) error {
	answer, err := recordings.ReadTrack(ctx, &recordingv1.ReadTrackRequest{Name: name, Stream: stream})
	if err != nil {
		return fmt.Errorf("read track: %w", err)
	}
	return save(file, func() ([]byte, error) {
		part, err := answer.Recv()
		return part.GetData(), err
	})
}

// save writes a stream of answers into a file.
func save(file string, next func() ([]byte, error)) (err error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for {
		p, err := next()
		if err == io.EOF { //nolint:errorlint // gRPC returns the end itself
			return nil
		}
		if err == nil {
			_, err = f.Write(p)
		}
		if err != nil {
			return fmt.Errorf("download %s: %w", filepath.Base(file), err)
		}
	}
}

// gap returns the longest time between two frames of a file, less the median,
// and where in the file it begins.
func (l *Lab) gap(ctx context.Context, file string) (from, length time.Duration, err error) {
	f, err := run(ctx, l.tools["ffprobe"], "-v", "error", "-show_entries", "packet=pts_time", "-of", "csv=p=0", file)
	if err != nil {
		return 0, 0, err
	}
	var steps measure.Sample
	last, longest := math.NaN(), 0.0
	for line := range strings.Lines(f.out) {
		at, err := strconv.ParseFloat(strings.Trim(strings.TrimSpace(line), ","), 64)
		if err != nil {
			return 0, 0, fmt.Errorf("ffprobe of %s: %w", filepath.Base(file), err)
		}
		if !math.IsNaN(last) {
			steps = append(steps, at-last)
			if at-last > longest {
				longest, from = at-last, time.Duration(last*float64(time.Second))
			}
		}
		last = at
	}
	if len(steps) < 100 {
		return 0, 0, fmt.Errorf("%s has only %d frames", filepath.Base(file), len(steps)+1)
	}
	return from, time.Duration((longest - steps.Median()) * float64(time.Second)), nil
}

// exportVerified exports a capture, has `relay verify` check it, and returns
// the names of the files in the bag.
func (l *Lab) exportVerified(ctx context.Context, p *relayProcess, capture, file string) ([]string, error) {
	evidence := evidencev1.NewEvidenceServiceClient(p.conn)
	answer, err := evidence.ExportCapture(ctx, &evidencev1.ExportCaptureRequest{Capture: capture})
	if err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	err = save(file, func() ([]byte, error) {
		part, err := answer.Recv()
		return part.GetData(), err
	})
	if err != nil {
		return nil, err
	}
	checkpoint, err := evidence.GetCheckpoint(ctx, &evidencev1.GetCheckpointRequest{Parent: "orgs/acme"})
	if err != nil {
		return nil, fmt.Errorf("log key: %w", err)
	}
	if _, err := run(ctx, l.cfg.Relay, "verify", "--quiet", "--key", checkpoint.GetVerifierKey(), file); err != nil {
		return nil, err
	}
	return names(file)
}

func names(file string) (list []string, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err == io.EOF {
			return list, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read bag: %w", err)
		}
		list = append(list, h.Name)
	}
}
