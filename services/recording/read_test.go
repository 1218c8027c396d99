package recording_test

import (
	"errors"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	recordingv1 "github.com/openova-io/bp-relay/gen/relay/recording/v1"

	"github.com/openova-io/bp-relay/services/dev/stack"
)

// breaker is a TCP proxy before a server. While it is armed, it closes each
// connection once that many bytes of the server's have passed, over all
// connections together.
type breaker struct {
	address string
	armed   atomic.Bool
	left    atomic.Int64
}

func newBreaker(t *testing.T, target string) *breaker {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	b := &breaker{address: lis.Addr().String()}
	var running sync.WaitGroup
	t.Cleanup(func() { _ = lis.Close(); running.Wait() })
	running.Go(func() {
		for {
			client, err := lis.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", target)
			if err != nil {
				_ = client.Close()
				continue
			}
			running.Go(func() { _, _ = io.Copy(server, client); _ = server.Close() })
			running.Go(func() { b.answer(client, server) })
		}
	})
	return b
}

func (b *breaker) answer(client, server net.Conn) {
	defer func() { _ = client.Close(); _ = server.Close() }()
	buf := make([]byte, 4<<10)
	for {
		n, err := server.Read(buf)
		if b.armed.Load() {
			n = int(max(0, min(int64(n), b.left.Add(-int64(n))+int64(n))))
		}
		if _, werr := client.Write(buf[:n]); err != nil || werr != nil || (b.armed.Load() && b.left.Load() <= 0) {
			return
		}
	}
}

// testStoreBreaksOff reads a track while the real object store's connections
// break off, before an answer and in the middle of each segment: ReadTrack fails
// then. It never answers OK with a part of the track.
func testStoreBreaksOff(t *testing.T, lk *stack.LiveKit, objects *stack.S3) {
	target, err := url.Parse(objects.Endpoint)
	require.NoError(t, err)
	store := newBreaker(t, target.Host)
	w := newWorld(t, lk, objects, func(s *setup) { s.S3 = "http://" + store.address })
	w.serve()
	room := w.room()
	w.publish(room, "ann", clip(t))
	started, err := w.recordings.StartRecording(w.acme(), &recordingv1.StartRecordingRequest{Parent: "orgs/acme", Room: room})
	require.NoError(t, err)
	name := started.GetRecording().GetName()
	time.Sleep(9 * time.Second) // the time itself is wanted: three segments
	_, err = w.recordings.StopRecording(w.acme(), &recordingv1.StopRecordingRequest{Name: name})
	require.NoError(t, err)
	rec := w.becomes(name, recordingv1.Recording_STATE_STORED)
	require.Len(t, rec.GetTracks(), 2)

	for _, track := range rec.GetTracks() {
		whole := w.read(name, track.GetStream())
		require.EqualValues(t, track.GetSizeBytes(), len(whole))
		for _, share := range []int64{0, 20, 50, 80, 95} {
			store.left.Store(track.GetSizeBytes() * share / 100)
			store.armed.Store(true)
			n, err := readTo(w, name, track.GetStream())
			store.armed.Store(false)
			require.Error(t, err, "%s broken off after %d %%: OK with %d of %d bytes", track.GetStream(), share, n, len(whole))
			require.Equal(t, codes.Unavailable, status.Code(err), "%v", err)
		}
		require.Equal(t, whole, w.read(name, track.GetStream()), "the store is back")
	}
}

// readTo reads a track until its end, which is not an error.
func readTo(w *world, name, stream string) (n int, err error) {
	s, err := w.recordings.ReadTrack(w.acme(), &recordingv1.ReadTrackRequest{Name: name, Stream: stream})
	if err != nil {
		return 0, err
	}
	for {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		n += len(m.GetData())
	}
}
