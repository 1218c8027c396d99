package part_test

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/dev/part"
)

func TestPrinter(t *testing.T) {
	var out bytes.Buffer
	p := part.NewPrinter(&out)
	e := part.Event{Stage: part.StageBuilding, Index: 2, Total: 5, Part: "seaweedfs", Version: "3.39", Log: "/tmp/x.log"}
	p.Report(e)
	e.Stage, e.Took = part.StageMade, 112*time.Second
	p.Report(e)
	e.Stage, e.Took = part.StageFailed, 1234*time.Millisecond
	p.Report(e)
	p.Close()
	require.Equal(t, "[2/5] seaweedfs 3.39 building ... (output in /tmp/x.log)\n"+
		"[2/5] seaweedfs 3.39 built in 1m52s\n"+
		"[2/5] seaweedfs 3.39 failed in 1.2s; output in /tmp/x.log\n", out.String())
}

// TestPrinterSaysWhatStillRuns: a line for each part every 15 s, with what it
// does and for how long, and none after it has ended.
func TestPrinterSaysWhatStillRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := part.NewPrinter(&out)
		weed := part.Event{Stage: part.StageBuilding, Index: 1, Total: 2, Part: "seaweedfs"}
		p.Report(weed)
		time.Sleep(5 * time.Second)
		guacd := part.Event{Stage: part.StageBuilding, Index: 2, Total: 2, Part: "guacd"}
		p.Report(guacd)
		weed.Doing = "compiling, 812 of 1934 packages"
		p.Report(weed)
		time.Sleep(11 * time.Second)
		weed.Stage, weed.Took = part.StageMade, 16*time.Second
		p.Report(weed)
		time.Sleep(15 * time.Second)
		guacd.Stage, guacd.Took = part.StageMade, 26*time.Second
		p.Report(guacd)
		time.Sleep(time.Minute)
		p.Close()
		require.Equal(t, []string{
			"[1/2] seaweedfs building ...",
			"[2/2] guacd building ...",
			"[1/2] seaweedfs building: compiling, 812 of 1934 packages, 15s so far",
			"[2/2] guacd building, 10s so far",
			"[1/2] seaweedfs built in 16s",
			"[2/2] guacd building, 25s so far",
			"[2/2] guacd built in 26s",
		}, strings.Split(strings.TrimSpace(out.String()), "\n"))
	})
}

func TestPrinterShowsPlanTotalAndTail(t *testing.T) {
	var out bytes.Buffer
	p := part.NewPrinter(&out)
	parts, err := part.Named(part.SeaweedFS, part.Guacd)
	require.NoError(t, err)
	plan := &part.Plan{Missing: parts, Time: 125 * time.Second, Cache: "/cache", Disk: 466_000_000, GoCaches: 5_000_000_000, Free: 12_300_000_000, Found: []part.Name{part.LiveKit}}
	p.Report(part.Event{Stage: part.StagePlanned, Total: 3, Plan: plan})
	said := out.String()
	require.Contains(t, said, "Missing: 2 of 3. Getting them takes about 3 min with ")
	require.Contains(t, said, " cores and 466 MB of disk in /cache, and up to 5.0 GB in Go's module and build caches (12.3 GB free).\n")
	require.Contains(t, said, "  seaweedfs 4.53     Go modules, compiled, about 8 min, 143 MB\n")
	require.Contains(t, said, "  There already: livekit.\n")

	out.Reset()
	p.Report(part.Event{Stage: part.StageDone, Total: 3, Took: 132 * time.Second, Plan: plan})
	require.Equal(t, "Got 2 of 3 in 2m12s; they take 466 MB of disk.\n", out.String())

	out.Reset()
	log := filepath.Join(t.TempDir(), "x.log")
	write(t, log, strings.Repeat("before\n", 20)+"main.go:3: no such thing\n")
	p.Report(part.Event{Stage: part.StageFailed, Index: 1, Total: 1, Part: "tiny", Log: log, Took: time.Second})
	require.Equal(t, 13, strings.Count(out.String(), "\n"), "the last 12 lines of the output and no more")
	require.True(t, strings.HasSuffix(out.String(), "\n    main.go:3: no such thing\n"))
}
