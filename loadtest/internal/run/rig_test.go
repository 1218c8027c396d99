package run_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/livekit/protocol/livekit"
	lksdk "github.com/livekit/server-sdk-go/v2"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/report"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/loadtest/internal/run"
	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
)

// TestMain verifies that the runs leave no goroutine and no socket behind.
func TestMain(m *testing.M) {
	before := sockets()
	code := m.Run()
	if err := stacktest.Leaks(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if left := sockets() - before; code == 0 && left > 0 {
		fmt.Fprintf(os.Stderr, "%d sockets were left open\n", left)
		code = 1
	}
	os.Exit(code)
}

// sockets returns the number of this process's open sockets.
func sockets() int {
	n := 0
	all, _ := os.ReadDir("/proc/self/fd")
	for _, e := range all {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}

// installed starts a LiveKit and a STUNner.
func installed(t *testing.T) run.SUT {
	target := parse(t, "target: {local: true}").Target
	system, err := run.Find(t.Context(), run.FindConfig{Target: target, Getenv: os.Getenv, Out: io.Discard})
	require.NoError(t, err)
	return system
}

// shared is an installation for several runs.
func shared(t *testing.T) run.SUT {
	system := installed(t)
	t.Cleanup(func() { require.NoError(t, system.Close()) })
	return system
}

// light is media of a low bitrate, for tests of joins.
const light = `
target: {local: true}
media:
  clip: 4s
  audio: {bitrate: 32kbps}
`

// start runs a scenario and checks what holds for every report.
func start(t *testing.T, o run.Options) *result.Report {
	if o.Run == "" {
		o.Run = roomName(t)
	}
	rep, err := run.Run(t.Context(), o)
	require.NoError(t, err)
	sound(t, rep)
	return rep
}

// roomName returns the part of a test's room names that names the test.
func roomName(t *testing.T) string {
	return strings.ToLower(strings.NewReplacer("/", "-", "_", "-", ",", "").Replace(t.Name()))
}

// sound checks what holds for every report.
func sound(t *testing.T, rep *result.Report) {
	report.Summary(testWriter{t}, rep)
	raw, err := json.Marshal(rep)
	require.NoError(t, err)
	schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(result.SchemaJSON()))
	require.NoError(t, err)
	c := jsonschema.NewCompiler()
	require.NoError(t, c.AddResource("schema.json", schema))
	compiled, err := c.Compile("schema.json")
	require.NoError(t, err)
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	require.NoError(t, err)
	require.NoError(t, compiled.Validate(doc))
	again, err := result.Read(bytes.NewReader(raw))
	require.NoError(t, err)
	require.Equal(t, rep.Total.Received.Packets, again.Total.Received.Packets)

	var packets int64
	for _, p := range append(rep.Paths, rep.Total) {
		j := p.Joins
		require.Equal(t, j.Attempted, j.Succeeded+j.Failed, p.Name)
		require.LessOrEqual(t, j.Left, j.Succeeded, p.Name)
		require.Equal(t, int64(j.Succeeded), j.Time.Count(), p.Name)
		require.Equal(t, p.Received.Expected, p.Received.Packets+p.Received.Lost, p.Name)
		require.Zero(t, p.Wrong, p.Name)
		require.LessOrEqual(t, p.Received.MeasuredPackets, p.Received.Packets, p.Name)
		require.LessOrEqual(t, p.Received.MeasuredBytes, p.Received.Bytes, p.Name)
		if p.Name != result.Total {
			packets += p.Received.Packets
		}
		hops := lostByHop(rep, p.Name)
		if p.Name != result.Total && hops != nil {
			var lost int64
			for _, n := range hops {
				lost += n
			}
			require.Equal(t, p.Received.Lost, lost, p.Name)
		}
		require.Zero(t, hops[result.HopResidual], p.Name)
	}
	require.Equal(t, rep.Total.Received.Packets, packets)
}

// rooms returns the names of the rooms of a system that a run made.
func rooms(t *testing.T, system run.SUT) []string {
	raw := run.LiveKitOf(system)
	list, err := lksdk.NewRoomServiceClient(raw.URL, raw.Key, raw.Secret).ListRooms(t.Context(), &livekit.ListRoomsRequest{})
	require.NoError(t, err)
	var out []string
	for _, r := range list.GetRooms() {
		out = append(out, r.GetName())
	}
	return out
}
