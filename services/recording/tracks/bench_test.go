package tracks_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/livekit/protocol/auth"
	"github.com/livekit/protocol/logger"
	lksdk "github.com/livekit/server-sdk-go/v2"
	"github.com/pion/webrtc/v4"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
	"github.com/openova-io/bp-relay/services/dev/testmedia"
	"github.com/openova-io/bp-relay/services/livekit"
	"github.com/openova-io/bp-relay/services/recording/tracks"
)

// childEnv makes the test binary a subscriber whose CPU time is measured.
const childEnv = "RELAY_TRACKS_CHILD"

// child is what a measured process does.
type child struct {
	URL, Key, Secret, Room, Dir string
	Record                      bool
}

func TestMain(m *testing.M) {
	lksdk.SetLogger(logger.GetDiscardLogger())
	if raw := os.Getenv(childEnv); raw != "" {
		var c child
		err := json.Unmarshal([]byte(raw), &c)
		if err == nil {
			err = c.run()
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if code == 0 {
		if err := stacktest.Leaks(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// diskSink is a file, with one write per unit.
type diskSink struct {
	*os.File
	n, total *atomic.Int64
}

func (s diskSink) Append(p []byte) error {
	s.n.Add(int64(len(p)))
	s.total.Add(int64(len(p)))
	_, err := s.Write(p)
	return err
}
func (s diskSink) Mark(string, time.Time, map[string]string) {}
func (s diskSink) Gap(time.Time, time.Time, string)          {}
func (s diskSink) Size() int64                               { return s.n.Load() }

// run subscribes to the room and answers each line on its input with the
// media bytes received and the CPU time used so far.
func (c child) run() error {
	var bytes atomic.Int64
	if c.Record {
		client, err := livekit.New(livekit.Config{URL: c.URL, Key: c.Key, Secret: c.Secret})
		if err != nil {
			return err
		}
		rec, err := tracks.New(tracks.Config{
			LiveKit: client, Room: c.Room, Identity: "recorder",
			Open: func(_ context.Context, s tracks.Stream) (tracks.Sink, error) {
				f, err := os.Create(filepath.Join(c.Dir, s.Name+s.Ext))
				return diskSink{f, new(atomic.Int64), &bytes}, err
			},
		})
		if err != nil {
			return err
		}
		go func() { _, _ = rec.Run(context.Background()) }() // until the process ends
	} else {
		// The plainest subscriber that can be written with the SDK: it reads
		// each packet and throws it away.
		cb := lksdk.NewRoomCallback()
		cb.OnTrackSubscribed = func(t *webrtc.TrackRemote, _ *lksdk.RemoteTrackPublication, p *lksdk.RemoteParticipant) {
			p.WritePLI(t.SSRC())
			for {
				pkt, _, err := t.ReadRTP()
				if err != nil {
					return
				}
				bytes.Add(int64(len(pkt.Payload)))
			}
		}
		yes, no := true, false
		token, err := auth.NewAccessToken(c.Key, c.Secret).SetIdentity("bare").
			SetVideoGrant(&auth.VideoGrant{RoomJoin: true, Room: c.Room, Hidden: true, CanSubscribe: &yes, CanPublish: &no}).ToJWT()
		if err != nil {
			return err
		}
		if _, err := lksdk.ConnectToRoomWithToken(c.URL, token, cb); err != nil {
			return err
		}
	}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			return err
		}
		_, _ = fmt.Fprintln(os.Stdout, bytes.Load(), time.Duration(u.Utime.Nano()+u.Stime.Nano()).Seconds())
	}
	os.Exit(0)
	return nil
}

// measured is a running child.
type measured struct {
	in   io.WriteCloser
	out  *bufio.Reader
	stop func()
}

func startChild(b *testing.B, c child) *measured {
	raw, err := json.Marshal(c)
	require.NoError(b, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+string(raw), "GOMAXPROCS=1")
	in, err := cmd.StdinPipe()
	require.NoError(b, err)
	out, err := cmd.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, cmd.Start())
	return &measured{in: in, out: bufio.NewReader(out), stop: func() { _ = in.Close(); _ = cmd.Wait() }}
}

func (m *measured) ask(b *testing.B) (bytes, cpu float64) {
	_, err := fmt.Fprintln(m.in)
	require.NoError(b, err)
	line, err := m.out.ReadString('\n')
	require.NoError(b, err)
	_, err = fmt.Sscan(strings.TrimSpace(line), &bytes, &cpu)
	require.NoError(b, err)
	return bytes, cpu
}

// BenchmarkRecorderCPU measures CPU time per Gbit of media of the recorder and of
// a bare SDK subscriber, in turns (ABBA), with six 720p participants.
func BenchmarkRecorderCPU(b *testing.B) {
	lk := stacktest.LiveKit(b)
	cache, err := os.UserCacheDir()
	require.NoError(b, err)
	clip, err := testmedia.Make(b.Context(), filepath.Join(cache, "bp-relay", "media"), testmedia.Spec{Length: 5 * time.Second})
	require.NoError(b, err)
	for i := range 6 {
		token, err := auth.NewAccessToken(lk.Key, lk.Secret).SetIdentity(fmt.Sprint("p", i)).SetVideoGrant(&auth.VideoGrant{RoomJoin: true, Room: "bench"}).ToJWT()
		require.NoError(b, err)
		p, err := testmedia.Publish(b.Context(), testmedia.PublishConfig{URL: lk.SignalURL, Token: token, Clip: clip})
		require.NoError(b, err)
		defer p.Close()
	}
	round := func(record bool) float64 {
		m := startChild(b, child{URL: lk.SignalURL, Key: lk.Key, Secret: lk.Secret, Room: "bench", Dir: b.TempDir(), Record: record})
		defer m.stop()
		time.Sleep(3 * time.Second) // joined and warm
		bytes0, cpu0 := m.ask(b)
		time.Sleep(8 * time.Second)
		bytes1, cpu1 := m.ask(b)
		gbit := (bytes1 - bytes0) * 8 / 1e9
		require.Greater(b, gbit, 0.04, "media flows")
		b.Logf("record=%v: %.4f Gbit, %.2f CPU-s, %.2f CPU-s/Gbit", record, gbit, cpu1-cpu0, (cpu1-cpu0)/gbit)
		return (cpu1 - cpu0) / gbit
	}
	for b.Loop() {
		var bare, rec float64
		for _, record := range []bool{false, true, true, false} {
			if record {
				rec += round(true) / 2
			} else {
				bare += round(false) / 2
			}
		}
		b.ReportMetric(bare, "bare-CPU-s/Gbit")
		b.ReportMetric(rec, "recorder-CPU-s/Gbit")
		b.ReportMetric(rec/bare, "ratio")
	}
}
