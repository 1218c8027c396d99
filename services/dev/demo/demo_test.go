package demo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/app"
	"github.com/openova-io/bp-relay/services/dev/cli"
	"github.com/openova-io/bp-relay/services/dev/demo"
)

// output keeps the demo's output, and calls on once the output contains a text.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
	at string
	on func()
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, err := o.b.Write(p)
	if o.on != nil && strings.Contains(o.b.String(), o.at) {
		o.on()
		o.on = nil
	}
	return n, err
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// command runs "relay-dev demo" in this process, with a stack of its own.
func command(ctx context.Context, t *testing.T, out *output, dir string, args ...string) error {
	t.Helper()
	root := cli.Command(out, out)
	root.SetArgs(append([]string{"demo", "--dir", dir}, args...))
	return root.ExecuteContext(ctx)
}

// nothingLeft fails if a process that this one started still runs, or a stack's
// folder exists.
func nothingLeft(t *testing.T, dir string) {
	t.Helper()
	lists, err := filepath.Glob("/proc/self/task/*/children")
	require.NoError(t, err)
	for _, l := range lists {
		pids, err := os.ReadFile(l)
		if err != nil {
			continue // the thread has ended
		}
		for pid := range strings.FieldsSeq(string(pids)) {
			name, _ := os.ReadFile(filepath.Join("/proc", pid, "cmdline"))
			t.Errorf("process %s is left: %s", pid, bytes.ReplaceAll(name, []byte{0}, []byte{' '}))
		}
	}
	stacks, err := filepath.Glob(filepath.Join(dir, "demo-stack-*"))
	require.NoError(t, err)
	require.Empty(t, stacks)
}

func TestTheWholeDemo(t *testing.T) {
	dir, out := t.TempDir(), new(output)
	err := command(t.Context(), t, out, dir, "--seconds", "6", "--keep")
	require.NoError(t, err, out)
	text := out.String()
	require.NotContains(t, text, "✘")
	require.NotContains(t, text, "\x1b", "plain text where there is no terminal")
	for _, part := range []string{"[6/6]", "uses  relay 127.0.0.1", "VP8 1280x720", "Opus 48000", "relay-42", "byte for byte", "status 0x020B", "8 of 8 altered copies", "Everything held"} {
		require.Contains(t, text, part)
	}
	runs, err := filepath.Glob(filepath.Join(dir, "demo", "*"))
	require.NoError(t, err)
	require.Len(t, runs, 1)
	f, err := os.Open(filepath.Join(runs[0], "desktop.png"))
	require.NoError(t, err)
	defer f.Close()
	img, err := png.Decode(f)
	require.NoError(t, err)
	require.Equal(t, "(1024,600)", img.Bounds().Size().String())

	// The command that a person would use says the same.
	for bag, want := range map[string]string{"call.tar": "OK:", "session.tar": "OK:", "call-removed.tar": "segment.missing", "session-flipped.tar": "segment.changed"} {
		said := new(output)
		root := app.Command(said, said)
		root.SetArgs([]string{"verify", "--quiet", "--key", filepath.Join(runs[0], "log.vkey"), filepath.Join(runs[0], bag)})
		err := root.ExecuteContext(t.Context())
		require.Equal(t, want == "OK:", err == nil, said)
		require.Contains(t, said.String(), want)
	}
	stacks, err := filepath.Glob(filepath.Join(dir, "demo-stack-*"))
	require.NoError(t, err)
	require.Len(t, stacks, 1, "--keep keeps it")
	require.NoError(t, os.RemoveAll(stacks[0]))
	nothingLeft(t, dir)
}

func TestCtrlC(t *testing.T) {
	for at, step := range map[string]string{"starting the demo's own": "step 1", "… recording 6 s": "step 3"} {
		t.Run(step, func(t *testing.T) {
			dir, out := t.TempDir(), new(output)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var when time.Time
			out.at, out.on = at, func() { when = time.Now(); cancel() }
			err := command(ctx, t, out, dir, "--seconds", "6")
			var code app.ErrExit
			require.ErrorAs(t, err, &code, out)
			require.EqualValues(t, 130, code, out)
			require.Less(t, time.Since(when), 20*time.Second)
			require.Contains(t, out.String(), "Interrupted in "+step)
			require.NotContains(t, out.String(), "✘")
			nothingLeft(t, dir)
		})
	}
}

func TestAFailureNamesItsStepAndTheLogs(t *testing.T) {
	for name, c := range map[string]struct {
		stack func(context.Context, io.Writer) (demo.Relay, error)
		want  []string
	}{
		"no stack": {
			func(context.Context, io.Writer) (demo.Relay, error) {
				return demo.Relay{}, errors.New("guacd is not to be had")
			},
			[]string{"✘ guacd is not to be had", "FAILED in step 1"},
		},
		"a stack that does not answer": {
			func(context.Context, io.Writer) (demo.Relay, error) {
				return demo.Relay{API: "127.0.0.1:1", Org: "acme", About: "a stack", Logs: "the place of logs",
					Token: func(string, ...string) (string, error) { return "none", nil }}, nil
			},
			[]string{"GetCheckpoint", "Unavailable", "FAILED in step 1", "logs of the stack: the place of logs"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			out := new(output)
			err := demo.Run(t.Context(), demo.Config{Stack: c.stack, Seconds: 6, Dir: t.TempDir(), Out: out})
			require.ErrorIs(t, err, demo.ErrFailed, fmt.Sprint(out))
			for _, part := range c.want {
				require.Contains(t, out.String(), part)
			}
			require.NotContains(t, out.String(), "Everything held")
			nothingLeft(t, t.TempDir())
		})
	}
	require.ErrorContains(t, demo.Run(t.Context(), demo.Config{Seconds: 1, Dir: t.TempDir(), Out: new(output)}), "2 to 600")
}
