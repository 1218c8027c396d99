package local_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/local"
)

// tiny is a part that is a real Go module of ten lines.
func tiny(t *testing.T) (local.Obtainer, []local.Part, *events) {
	t.Helper()
	deploy := t.TempDir()
	write(t, filepath.Join(deploy, "tiny", "go.mod"), "module example.org/tiny\n\ngo 1.26.0\n")
	write(t, filepath.Join(deploy, "tiny", "main.go"), "package main\n\nfunc main() { println(\"tiny\") }\n")
	ev := new(events)
	return local.Obtainer{Deploy: deploy, Cache: t.TempDir(), Progress: ev.add},
		[]local.Part{{Name: "tiny", Version: "0.1", Go: &local.GoModule{
			Dir: "tiny", Binaries: map[string]string{"tiny": "example.org/tiny"},
		}}}, ev
}

func write(t *testing.T, path, body string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(body), 0o644))
}

type events struct {
	mu  sync.Mutex
	all []local.Event
	on  func(local.Event)
}

func (e *events) add(ev local.Event) {
	e.mu.Lock()
	e.all = append(e.all, ev)
	e.mu.Unlock()
	if e.on != nil {
		e.on(ev)
	}
}

func (e *events) stages() []local.Stage {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []local.Stage
	for _, ev := range e.all {
		out = append(out, ev.Stage)
	}
	return out
}

func runs(t *testing.T, path string) {
	t.Helper()
	out, err := exec.Command(path).CombinedOutput()
	require.NoError(t, err)
	require.Equal(t, "tiny\n", string(out))
}

func TestObtainBuildsOnce(t *testing.T) {
	o, parts, ev := tiny(t)
	tools, err := o.Obtain(t.Context(), parts)
	require.NoError(t, err)
	runs(t, tools["tiny"])
	again, err := o.Obtain(t.Context(), parts)
	require.NoError(t, err)
	require.Equal(t, tools, again)
	require.Equal(t, []local.Stage{local.StageBuilding, local.StageMade, local.StageFound}, ev.stages())

	// Other pins: another folder, and the old one stays for other clones.
	write(t, filepath.Join(o.Deploy, "tiny", "go.mod"), "module example.org/tiny\n\ngo 1.25.0\n")
	other, err := o.Obtain(t.Context(), parts)
	require.NoError(t, err)
	require.NotEqual(t, tools["tiny"], other["tiny"])
	runs(t, tools["tiny"])
}

func TestObtainTwiceAtOnce(t *testing.T) {
	o, parts, ev := tiny(t)
	var wg sync.WaitGroup
	got := make([]local.Tools, 4)
	errs := make([]error, len(got))
	for i := range got {
		wg.Go(func() { got[i], errs[i] = o.Obtain(t.Context(), parts) })
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs...))
	made := 0
	for _, s := range ev.stages() {
		if s == local.StageMade {
			made++
		}
	}
	require.Equal(t, 1, made, "one run builds, the others wait for it")
	for _, g := range got {
		require.Equal(t, got[0], g)
	}
	runs(t, got[0]["tiny"])
}

func TestObtainAfterInterruption(t *testing.T) {
	o, parts, ev := tiny(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	ev.on = func(e local.Event) {
		if e.Stage == local.StageBuilding {
			cancel(errors.New("Ctrl-C"))
		}
	}
	_, err := o.Obtain(ctx, parts)
	require.ErrorContains(t, err, "interrupted")
	require.ErrorContains(t, err, "Ctrl-C")
	left, err := filepath.Glob(filepath.Join(o.Cache, "tiny", "*"))
	require.NoError(t, err)
	require.Empty(t, left, "nothing unfinished has a finished name")

	// What a killed run leaves, which could not clean up.
	half := filepath.Join(o.Cache, "tiny", ".making-killed")
	write(t, filepath.Join(half, "bin", "tiny"), "half a binary")
	ev.on = nil
	tools, err := o.Obtain(t.Context(), parts)
	require.NoError(t, err)
	runs(t, tools["tiny"])
	require.NoDirExists(t, half)
}

func TestObtainThatFails(t *testing.T) {
	o, parts, _ := tiny(t)
	main := filepath.Join(o.Deploy, "tiny", "main.go")
	write(t, main, "package main\n\nfunc main() { no such thing }\n")
	_, err := o.Obtain(t.Context(), parts)
	var be *local.BuildError
	require.ErrorAs(t, err, &be)
	require.Contains(t, err.Error(), be.Log)
	require.NotContains(t, err.Error(), "\n")
	body, err := os.ReadFile(be.Log)
	require.NoError(t, err)
	require.Contains(t, string(body), "main.go:3", "the log holds the compiler's words")

	write(t, main, "package main\n\nfunc main() { println(\"tiny\") }\n")
	tools, err := o.Obtain(t.Context(), parts)
	require.NoError(t, err)
	runs(t, tools["tiny"])
}

func TestMissingPackage(t *testing.T) {
	t.Setenv("PATH", "") // no apt-get
	o := local.Obtainer{Deploy: t.TempDir(), Cache: t.TempDir()}
	_, err := o.Obtain(t.Context(), []local.Part{{Name: "xrdp", Debian: &local.Debian{
		Packages: []string{"xrdp", "xorgxrdp"}, Binaries: map[string][]string{"xrdp": {"/nowhere/xrdp"}},
	}}})
	require.EqualError(t, err, "missing: xrdp: install it with: sudo apt-get install xrdp xorgxrdp")
}

// TestPinsMatchTheCatalogue: the version that people are shown is the one that
// go.mod pins.
func TestPinsMatchTheCatalogue(t *testing.T) {
	deploy, err := local.FindDeploy(".")
	require.NoError(t, err)
	for dir, pin := range map[string]string{
		"livekit":   "github.com/livekit/livekit-server v1.11.0",
		"stunner":   "github.com/l7mp/stunner v1.2.1",
		"seaweedfs": "github.com/seaweedfs/seaweedfs v0.0.0-20230109022022-51d4a4b28d0e",
	} {
		body, err := os.ReadFile(filepath.Join(deploy, dir, "go.mod"))
		require.NoError(t, err)
		require.Contains(t, string(body), pin)
	}
	parts, err := local.Parts(local.PartGuacd, local.PartStunner)
	require.NoError(t, err)
	require.Len(t, parts, 2)
	require.Len(t, local.AllParts(), 8)
	_, err = local.Parts("nosuch")
	require.ErrorContains(t, err, "nosuch")
	_, err = local.FindDeploy("/")
	require.ErrorIs(t, err, local.ErrNoDeploy)
}

func TestPrinter(t *testing.T) {
	var out bytes.Buffer
	p := local.NewPrinter(&out)
	e := local.Event{Stage: local.StageBuilding, Index: 2, Total: 5, Part: "seaweedfs", Version: "3.39", Log: "/tmp/x.log"}
	p.Report(e)
	e.Stage, e.Took = local.StageMade, 112*time.Second
	p.Report(e)
	e.Stage, e.Took = local.StageFailed, 1234*time.Millisecond
	p.Report(e)
	p.Close()
	require.Equal(t, "[2/5] seaweedfs 3.39 building ... (output in /tmp/x.log)\n"+
		"[2/5] seaweedfs 3.39 built in 1m52s\n"+
		"[2/5] seaweedfs 3.39 failed in 1.2s; output in /tmp/x.log\n", out.String())
}
