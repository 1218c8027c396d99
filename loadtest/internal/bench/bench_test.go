package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/guacd"
	"github.com/openova-io/bp-relay/loadtest/internal/measure"
)

// TestMain also runs this test binary in the children's roles.
func TestMain(m *testing.M) {
	if code, handled := Roles().Run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr); handled {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// relayProgram builds the relay that the case "verify" runs.
func relayProgram(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "relay")
	out, err := exec.Command("go", "build", "-o", program, "github.com/openova-io/bp-relay/services/cmd/relay").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return program
}

// Tests do not check the figures. But each case must run on the real parts and
// yield all its results, with plausible numbers.
func TestCasesGiveTheirResults(t *testing.T) {
	path := filepath.Join(t.TempDir(), "results.json")
	var out bytes.Buffer
	err := Run(t.Context(), Config{
		Only: []string{"latency", "verify", "log"}, Rounds: 1, Quick: true, Relay: relayProgram(t), Results: path, Out: &out,
	})
	require.NoError(t, err, out.String())
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	var rows []measure.Result
	require.NoError(t, json.Unmarshal(raw, &rows))
	byName := map[string]measure.Result{}
	for _, r := range rows {
		byName[r.Name] = r
	}
	cases, err := pick([]string{"latency", "verify", "log"})
	require.NoError(t, err)
	for _, c := range cases {
		for _, name := range c.Results {
			require.Contains(t, byName, name)
			if byName[name].Missing != "" {
				t.Logf("%s: %s", name, byName[name].Missing)
			}
		}
	}
	require.Positive(t, float64(byName["verify.cpu"].Value))
	require.Greater(t, float64(byName["verify.memory"].Value), 5.0)
	require.Greater(t, float64(byName["log.appends.sqlite"].Value), 100.0)
	require.Greater(t, float64(byName["log.appends.postgres"].Value), 100.0)
	require.Contains(t, out.String(), "[1/3] latency")
	require.Contains(t, out.String(), "tunnel.latency.p99")
}

// Each broker carries a small load completely, and uses CPU time for it.
func TestBrokersCarry(t *testing.T) {
	l, err := newLab(t.Context(), Config{Quick: true, Out: io.Discard})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.close()) })
	far, err := guacd.Listen(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, far.Close()) })
	frame, err := guacd.Frame(256 << 10)
	require.NoError(t, err)
	ours, bare, guac, lite := l.brokers(t.Context())
	for _, b := range []*broker{ours, bare, guac, lite} {
		if b.absent != nil {
			require.Equal(t, lite, b, "only node may be missing: %v", b.absent)
			t.Logf("%s: %v", b.name, b.absent)
			continue
		}
		require.NoError(t, b.ensure(t.Context(), far))
		used, err := b.carry(t.Context(), far, load{frames: [][]byte{frame}, total: 2 << 20})
		require.NoError(t, err)
		require.Greater(t, used, 0.05, b.name)
		require.Less(t, used, 500.0, b.name)
		require.NoError(t, b.stop())
	}
}

func TestUnknownCase(t *testing.T) {
	err := Run(t.Context(), Config{Only: []string{"nothing"}})
	require.ErrorContains(t, err, "tunnel", "the error lists the cases")
}

func TestCommandLine(t *testing.T) {
	var out, errs bytes.Buffer
	require.Equal(t, 0, Main([]string{"-list"}, nil, &out, &errs))
	require.Equal(t, len(Cases()), strings.Count(out.String(), "\n"))
	require.Equal(t, 0, Main([]string{"-h"}, nil, &out, &errs))
	require.Contains(t, errs.String(), "-quick")
	require.Equal(t, 2, Main([]string{"-nonsense"}, nil, &out, &errs))
	require.Equal(t, 1, Main([]string{"-only", "nothing"}, nil, &out, &errs))
}

// A case that fails still has its rows, with the reason.
func TestMissingRows(t *testing.T) {
	c := Case{Name: "x", Results: []string{"x.a", "x.b"}}
	rows := missing(c, []measure.Result{{Name: "x.a"}}, os.ErrNotExist)
	require.Len(t, rows, 2)
	require.Equal(t, "x.b", rows[1].Name)
	require.Equal(t, os.ErrNotExist.Error(), rows[1].Missing)
	require.False(t, rows[1].Met)
}

func TestNoRelay(t *testing.T) {
	l := &Lab{cfg: Config{Relay: filepath.Join(t.TempDir(), "relay")}, dir: t.TempDir()}
	_, err := verifyBag(t.Context(), l)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestLoadCount(t *testing.T) {
	s := load{frames: [][]byte{make([]byte, 10), make([]byte, 1)}, total: 23}
	n, bytes := s.count()
	require.Equal(t, 5, n) // 10 + 1 + 10 + 1 + 10
	require.EqualValues(t, 32, bytes)
}

// TestGap finds the gap in a real file: two clips of two seconds, two seconds
// apart.
func TestGap(t *testing.T) {
	ffmpeg, err := exec.LookPath("ffmpeg")
	require.NoError(t, err)
	ffprobe, err := exec.LookPath("ffprobe")
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "gap.webm")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err = run(ctx, ffmpeg, "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=64x48:r=30:d=6",
		"-vf", "select='lt(t,2)+gt(t,4)'", "-fps_mode", "passthrough", "-c:v", "libvpx", "-deadline", "realtime", file)
	require.NoError(t, err)
	l := &Lab{tools: map[string]string{"ffprobe": ffprobe}}
	from, gap, err := l.gap(ctx, file)
	require.NoError(t, err)
	require.InDelta(t, 2, gap.Seconds(), 0.1)
	require.InDelta(t, 2, from.Seconds(), 0.1)
}
