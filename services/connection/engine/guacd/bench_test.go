package guacd_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/connection/engine/guacd"
	"github.com/openova-io/bp-relay/services/connection/guac"
	"github.com/openova-io/bp-relay/services/connection/tunnel"
)

// spool makes one write() per append into files of 4 MiB and keeps the newest
// four, as capture does if the object store is fast enough.
type spool struct {
	dir  string
	f    *os.File
	n    int
	size int
}

func (s *spool) Append(p []byte) error {
	if s.f == nil || s.size+len(p) > 4<<20 {
		if s.f != nil {
			_ = s.f.Close()
		}
		_ = os.Remove(s.path(s.n - 4))
		var err error
		if s.f, err = os.Create(s.path(s.n)); err != nil {
			return err
		}
		s.n++
		s.size = 0
	}
	s.size += len(p)
	_, err := s.f.Write(p)
	return err
}

func (s *spool) path(n int) string { return filepath.Join(s.dir, strconv.Itoa(n)) }

// BenchmarkOutput sends image blobs through a whole session over loopback TCP:
// guacd's end, the session with its spool, and a WebSocket client that discards
// them. cpu-s/GiB covers the whole process, both ends included.
// BenchmarkBareRelay is a bare relay between the same ends; the difference is the
// cost of the session.
func BenchmarkOutput(b *testing.B) {
	instructions := []byte(strings.Repeat(encode("blob", "1", strings.Repeat("QUJD", 2016)), 64) + encode("sync", "7"))
	theirs, in, stop := bench(b)
	surplus := 0 // messages do not end where pushes do
	push(b, theirs, instructions, func(n int) error {
		n -= surplus
		defer func() { surplus = -n }()
		for n > 0 {
			h, err := ws.ReadHeader(in)
			if err != nil {
				return err
			}
			if _, err := in.Discard(int(h.Length)); err != nil {
				return err
			}
			if h.OpCode == ws.OpText {
				n -= int(h.Length)
			}
		}
		return nil
	})
	stop()
}

// bench starts a session. It returns guacd's end, a WebSocket client's end after
// the first message, and a function that stops both.
func bench(b *testing.B) (theirs net.Conn, in *bufio.Reader, stop func()) {
	files := &spool{dir: b.TempDir()}
	ours, theirs := benchPair(b)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		br, err := tunnel.Accept(w, r, tunnel.Options{Subprotocols: []string{guacd.Subprotocol}})
		if err != nil {
			b.Error(err)
			return
		}
		s := guacd.Session{Socket: br, Guacd: ours, ID: uuid, Protocol: "ssh", Output: files, Required: true}
		s.Run(ctx)
	}))
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	require.NoError(b, err)
	req := upgrade(srv.Listener.Addr().String())
	require.NoError(b, req.Write(conn))
	in = bufio.NewReaderSize(conn, 256<<10)
	_, err = http.ReadResponse(in, req)
	require.NoError(b, err)
	f, err := readFrame(in)
	require.NoError(b, err)
	require.Equal(b, encode("", uuid), string(f.Payload))
	return theirs, in, func() {
		cancel()
		_ = conn.Close()
		<-ended
		_ = theirs.Close()
		srv.Close()
	}
}

// BenchmarkBareRelay is io.CopyBuffer between the same ends, in user space.
func BenchmarkBareRelay(b *testing.B) {
	chunk := []byte(strings.Repeat(encode("blob", "1", strings.Repeat("QUJD", 2016)), 64))
	ours, theirs := benchPair(b)
	left, right := benchPair(b)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.CopyBuffer(struct{ io.Writer }{left}, struct{ io.Reader }{ours}, make([]byte, 64<<10))
	}()
	in := bufio.NewReaderSize(right, 256<<10)
	push(b, theirs, chunk, func(n int) error { _, err := in.Discard(n); return err })
	_ = theirs.Close()
	<-done
	_, _, _ = ours.Close(), left.Close(), right.Close()
}

func benchPair(b *testing.B) (x, y net.Conn) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	defer func() { _ = l.Close() }()
	x, err = net.Dial("tcp", l.Addr().String())
	require.NoError(b, err)
	y, err = l.Accept()
	require.NoError(b, err)
	return x, y
}

func push(b *testing.B, to io.Writer, chunk []byte, take func(n int) error) {
	b.SetBytes(int64(len(chunk)))
	b.ReportAllocs()
	b.ResetTimer()
	before := cpu()
	pushed := make(chan error, 1)
	go func() {
		for range b.N {
			if _, err := to.Write(chunk); err != nil {
				pushed <- err
				return
			}
		}
		pushed <- nil
	}()
	for range b.N {
		if err := take(len(chunk)); err != nil {
			b.Fatal(err)
		}
	}
	if err := <-pushed; err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	gib := float64(b.N) * float64(len(chunk)) / (1 << 30)
	b.ReportMetric((cpu()-before).Seconds()/gib, "cpu-s/GiB")
}

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// The scanner and the rules allocate nothing per message.
func TestNothingIsAllocatedPerMessage(t *testing.T) {
	var in guac.Instruction
	var s guac.Scanner
	rules := guac.ClientRules{Protocol: "ssh", Reserved: 56}
	msg := []byte(encode("mouse", "100", "200", "1"))
	out := []byte(encode("blob", "1", strings.Repeat("QUJD", 100)) + encode("sync", "5"))
	require.Zero(t, testing.AllocsPerRun(100, func() {
		_ = in.Parse(msg)
		_, _ = rules.Check(&in, 5)
		for p := out; len(p) > 0; {
			n, _, _ := s.Next(p)
			guac.See(p[:n])
			p = p[n:]
		}
	}))
}

// BenchmarkLatency sends one small frame at a time through a session with its
// spool, and through two bare sockets: the difference is the added latency.
func BenchmarkLatency(b *testing.B) {
	msg := []byte(encode("sync", "123456"))
	measure := func(b *testing.B, to io.Writer, take func() error) {
		times := make([]time.Duration, 0, b.N)
		for b.Loop() {
			began := time.Now()
			if _, err := to.Write(msg); err != nil {
				b.Fatal(err)
			}
			if err := take(); err != nil {
				b.Fatal(err)
			}
			times = append(times, time.Since(began))
		}
		slices.Sort(times)
		b.ReportMetric(float64(times[len(times)/2].Microseconds()), "p50-µs")
		b.ReportMetric(float64(times[len(times)*99/100].Microseconds()), "p99-µs")
	}
	b.Run("bare", func(b *testing.B) {
		ours, theirs := benchPair(b)
		left, right := benchPair(b)
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = io.CopyBuffer(struct{ io.Writer }{left}, struct{ io.Reader }{ours}, make([]byte, 64<<10))
		}()
		buf := make([]byte, len(msg))
		measure(b, theirs, func() error { _, err := io.ReadFull(right, buf); return err })
		_ = theirs.Close()
		<-done
		_, _, _ = ours.Close(), left.Close(), right.Close()
	})
	b.Run("tunnel", func(b *testing.B) {
		theirs, in, stop := bench(b)
		measure(b, theirs, func() error {
			for {
				h, err := ws.ReadHeader(in)
				if err != nil {
					return err
				}
				if _, err := in.Discard(int(h.Length)); err != nil || h.OpCode == ws.OpText {
					return err
				}
			}
		})
		stop()
	})
}
