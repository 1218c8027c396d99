package evidence_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	evidencev1 "github.com/openova-io/bp-relay/gen/relay/evidence/v1"
	"github.com/openova-io/bp-relay/services/evidence"
	"github.com/openova-io/bp-relay/services/format/bag"
	"github.com/openova-io/bp-relay/services/verify"
)

// One object of a real store is overwritten, another one deleted: the export
// names both segments, the verifier says "incomplete", and the rest is there.
func TestDamagedObjectsAreStatedInTheExport(t *testing.T) {
	w := newWorld(t)
	name, played := w.record(true)
	m, _, err := w.captures.Manifest(t.Context(), name)
	require.NoError(t, err)
	video, _ := m.Stream("video")
	audio, _ := m.Stream("audio")
	require.Len(t, video.Segments, 2)
	require.NoError(t, w.blob.Delete(t.Context(), m.Bucket, video.Segments[0].Key)) // Put overwrites nothing
	require.NoError(t, w.blob.Put(t.Context(), m.Bucket, video.Segments[0].Key, make([]byte, 100)))
	require.NoError(t, w.blob.Delete(t.Context(), m.Bucket, audio.Segments[0].Key))

	s, err := w.client.ExportCapture(w.acme(), &evidencev1.ExportCaptureRequest{Capture: name})
	require.NoError(t, err)
	var archive bytes.Buffer
	for {
		msg, err := s.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		archive.Write(msg.GetData())
	}
	require.Equal(t, []string{"2"}, s.Trailer().Get(evidence.DamagedTrailer))

	r, err := verify.Verify(t.Context(), verify.Config{Bag: "-", Stdin: &archive, Key: w.service.Ledger().VerifierKey()})
	require.NoError(t, err)
	var said bytes.Buffer
	require.NoError(t, r.WriteText(&said))
	require.Equal(t, verify.Incomplete, r.Verdict, said.String())
	require.Equal(t, 4, r.ExitCode())
	require.Equal(t, []verify.Damage{
		{Stream: "video", Segment: 0, Part: bag.StoredPart, Why: bag.WhyChanged},
		{Stream: "audio", Segment: 0, Part: bag.StoredPart, Why: bag.WhyMissing},
	}, r.Damaged)
	require.Contains(t, types(w.entries(w.acme(), name, 0)), "capture.damaged", "the log says so from now on")

	again, err := w.export(w.acme(), name, nil)
	require.NoError(t, err)
	left := played[video.Segments[1].Offset:]
	require.True(t, bytes.Contains(again, append(make([]byte, 1000), left...)), "the rest of the stream is there, in its place")

	// Without its manifest there is nothing to export, and the caller is told.
	info, err := w.captures.Get(t.Context(), name)
	require.NoError(t, err)
	require.NoError(t, w.blob.Delete(t.Context(), m.Bucket, info.Manifest.Key))
	_, err = w.export(w.acme(), name, nil)
	require.Equal(t, codes.DataLoss, status.Code(err), "%v", err)
	require.ErrorContains(t, err, "the capture's manifest in the object store is missing")
}
