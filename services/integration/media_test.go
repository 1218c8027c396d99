package integration_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"
	"github.com/stretchr/testify/require"

	evidencev1 "github.com/openova-io/bp-relay/gen/relay/evidence/v1"
	recordingv1 "github.com/openova-io/bp-relay/gen/relay/recording/v1"
	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"

	"github.com/openova-io/bp-relay/services/dev/part"
	"github.com/openova-io/bp-relay/services/dev/testmedia"
	"github.com/openova-io/bp-relay/services/verify"
)

// within is how long anything asynchronous may take on a busy machine.
const within = 60 * time.Second

// room creates a room and returns its name.
func (s *installation) room() string {
	r, err := roomv1.NewRoomServiceClient(s.dial("room")).CreateRoom(s.admin(), &roomv1.CreateRoomRequest{Parent: "orgs/acme"})
	require.NoError(s.t, err)
	return r.GetRoom().GetName()
}

// publish joins as a participant and sends real media until the test ends.
func (s *installation) publish(room, identity string, relayOnly bool) *testmedia.Publisher {
	cache, err := part.CacheDir()
	require.NoError(s.t, err)
	clip, err := testmedia.Make(s.t.Context(), filepath.Join(cache, "media"), testmedia.Spec{})
	require.NoError(s.t, err)
	rooms := roomv1.NewRoomServiceClient(s.dial("room"))
	req := &roomv1.JoinRoomRequest{Name: room, Identity: identity, Grants: &roomv1.Grants{Publish: true}, RelayOnly: relayOnly}
	var join *roomv1.JoinRoomResponse
	require.Eventually(s.t, func() bool {
		join, err = rooms.JoinRoom(s.admin(), req)
		return err == nil // relay_only is refused until the gateway's first probe
	}, within, 100*time.Millisecond)
	var ice []webrtc.ICEServer
	for _, i := range join.GetIceServers() {
		ice = append(ice, webrtc.ICEServer{URLs: i.GetUrls(), Username: i.GetUsername(), Credential: i.GetCredential()})
	}
	p, err := testmedia.Publish(s.t.Context(), testmedia.PublishConfig{URL: join.GetUrl(), Token: join.GetToken(), ICEServers: ice, RelayOnly: relayOnly, Clip: clip})
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = p.Close() })
	return p
}

// stored waits until the recording is sealed.
func (s *installation) stored(name string) *recordingv1.Recording {
	recs := recordingv1.NewRecordingServiceClient(s.dial("recording"))
	var rec *recordingv1.Recording
	require.Eventually(s.t, func() bool {
		got, err := recs.GetRecording(s.admin(), &recordingv1.GetRecordingRequest{Name: name})
		if err != nil {
			return false
		}
		rec = got.GetRecording()
		return rec.GetState() == recordingv1.Recording_STATE_STORED
	}, within, 100*time.Millisecond, "recording is not stored")
	return rec
}

// download reads one track into a file.
func (s *installation) download(recording, stream string) string {
	recs := recordingv1.NewRecordingServiceClient(s.dial("recording"))
	st, err := recs.ReadTrack(s.admin(), &recordingv1.ReadTrackRequest{Name: recording, Stream: stream})
	require.NoError(s.t, err)
	path := filepath.Join(s.t.TempDir(), stream+".webm")
	save(s.t, path, st)
	return path
}

// save writes a stream of bytes into a file.
func save[M interface{ GetData() []byte }](t *testing.T, path string, st interface{ Recv() (M, error) }) {
	f, err := os.Create(path)
	require.NoError(t, err)
	for {
		m, err := st.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		_, err = f.Write(m.GetData())
		require.NoError(t, err)
	}
	require.NoError(t, f.Close())
}

// export writes the capture's bag to a file, and returns its path with the log's
// key, which it has got before.
func (s *installation) export(capture string) (path, key string) {
	ev := evidencev1.NewEvidenceServiceClient(s.dial("evidence"))
	cp, err := ev.GetCheckpoint(s.admin(), &evidencev1.GetCheckpointRequest{Parent: "orgs/acme"})
	require.NoError(s.t, err)
	st, err := ev.ExportCapture(s.admin(), &evidencev1.ExportCaptureRequest{Capture: capture})
	require.NoError(s.t, err)
	path = filepath.Join(s.t.TempDir(), "bag.tar")
	save(s.t, path, st)
	return path, cp.GetVerifierKey()
}

// verified exports the capture, and fails the test if the bag does not verify.
func (s *installation) verified(capture string) (bag string, rep verify.Report) {
	bag, key := s.export(capture)
	rep, err := verify.Verify(s.t.Context(), verify.Config{Bag: bag, Key: key})
	require.NoError(s.t, err)
	require.True(s.t, rep.OK, "%+v", rep.Findings)
	return bag, rep
}

// track is ffprobe's description of a file.
type track struct {
	codec         string
	width, height int
	// first and last packet's time, and the longest time between two, in
	// seconds of the recording's clock.
	first, last, hole float64
}

// probe decodes the whole file without an error and measures its packets.
func (s *installation) probe(path string) track {
	out, err := exec.Command("ffmpeg", "-v", "error", "-xerror", "-i", path, "-f", "null", "-").CombinedOutput()
	require.NoError(s.t, err, "%s", out)
	require.Empty(s.t, string(out), "no decode error")
	raw, err := exec.Command("ffprobe", "-v", "error", "-of", "json", "-show_entries", "stream=codec_name,width,height:packet=pts_time", path).Output()
	require.NoError(s.t, err)
	var p struct {
		Packets []struct {
			PTS string `json:"pts_time"`
		}
		Streams []struct {
			Codec         string `json:"codec_name"`
			Width, Height int
		}
	}
	require.NoError(s.t, json.Unmarshal(raw, &p))
	require.Len(s.t, p.Streams, 1)
	tr := track{codec: p.Streams[0].Codec, width: p.Streams[0].Width, height: p.Streams[0].Height}
	for i, pk := range p.Packets {
		at, err := strconv.ParseFloat(pk.PTS, 64)
		require.NoError(s.t, err)
		if i == 0 {
			tr.first = at
		} else {
			tr.hole = max(tr.hole, at-tr.last)
		}
		tr.last = at
	}
	return tr
}

// isVideo reports whether a stream is a video file.
func isVideo(stream string) bool { return strings.HasPrefix(stream, "video") }
