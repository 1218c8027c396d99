package part_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/dev/part"
)

// tiny is a part that is a real Go module of ten lines.
func tiny(t *testing.T) (part.Obtainer, []part.Part, *events) {
	t.Helper()
	deploy := t.TempDir()
	write(t, filepath.Join(deploy, "tiny", "go.mod"), "module example.org/tiny\n\ngo 1.26.0\n")
	write(t, filepath.Join(deploy, "tiny", "main.go"), "package main\n\nfunc main() { println(\"tiny\") }\n")
	ev := new(events)
	return part.Obtainer{Deploy: deploy, Cache: t.TempDir(), Progress: ev.add},
		[]part.Part{{Name: "tiny", Version: "0.1", Go: &part.GoModule{
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
	all []part.Event
	on  func(part.Event)
}

func (e *events) add(ev part.Event) {
	e.mu.Lock()
	e.all = append(e.all, ev)
	e.mu.Unlock()
	if e.on != nil {
		e.on(ev)
	}
}

func (e *events) stages() []part.Stage {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []part.Stage
	for _, ev := range e.all {
		out = append(out, ev.Stage)
	}
	return slices.Compact(out) // a stage has an event for each new word about it
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
	require.Equal(t, []part.Stage{
		part.StagePlanned, part.StageFetching, part.StageQueued, part.StageBuilding, part.StageMade, part.StageDone,
		part.StageFound,
	}, ev.stages())
	plan, done := ev.all[0].Plan, ev.all[len(ev.all)-2]
	require.Equal(t, parts, plan.Missing)
	require.Equal(t, o.Cache, plan.Cache)
	require.Positive(t, plan.Free)
	require.Greater(t, done.Plan.Disk, int64(100_000), "the binary's size")
	require.Positive(t, done.Took)

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
	got := make([]part.Tools, 4)
	errs := make([]error, len(got))
	for i := range got {
		wg.Go(func() { got[i], errs[i] = o.Obtain(t.Context(), parts) })
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs...))
	made := 0
	for _, s := range ev.stages() {
		if s == part.StageMade {
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
	ev.on = func(e part.Event) {
		if e.Stage == part.StageBuilding {
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
	var be *part.BuildError
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
	o := part.Obtainer{Deploy: t.TempDir(), Cache: t.TempDir()}
	_, err := o.Obtain(t.Context(), []part.Part{{Name: "xrdp", Debian: &part.Debian{
		Packages: []string{"xrdp", "xorgxrdp"}, Binaries: map[string][]string{"xrdp": {"/nowhere/xrdp"}},
	}}})
	require.EqualError(t, err, "missing: xrdp: install it with: sudo apt-get install xrdp xorgxrdp")
}

// TestPinsMatchTheCatalogue: the version that people are shown is the one that
// go.mod pins.
func TestPinsMatchTheCatalogue(t *testing.T) {
	deploy, err := part.FindDeploy(".")
	require.NoError(t, err)
	for dir, pin := range map[string]string{
		"livekit":        "github.com/livekit/livekit-server v1.13.5",
		"stunner":        "github.com/l7mp/stunner v1.2.1",
		"seaweedfs":      "github.com/seaweedfs/seaweedfs v0.0.0-20261109003541-7506e5f91cd6",
		"seaweedfs-3.39": "github.com/seaweedfs/seaweedfs v0.0.0-20230109022022-51d4a4b28d0e",
	} {
		body, err := os.ReadFile(filepath.Join(deploy, dir, "go.mod"))
		require.NoError(t, err)
		require.Contains(t, string(body), pin)
	}
	parts, err := part.Named(part.Guacd, part.Stunner)
	require.NoError(t, err)
	require.Len(t, parts, 2)
	require.Len(t, part.All(), 9)
	_, err = part.Named("nosuch")
	require.ErrorContains(t, err, "nosuch")
	_, err = part.FindDeploy("/")
	require.ErrorIs(t, err, part.ErrNoDeploy)
}
