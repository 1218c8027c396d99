package sizing_test

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/loadtest/internal/run"
	"github.com/openova-io/bp-relay/loadtest/internal/scenario"
	"github.com/openova-io/bp-relay/loadtest/internal/sizing"
)

func TestScenarios(t *testing.T) {
	for _, row := range append(sizing.Full(), sizing.Recordings(false)) {
		for _, size := range row.Sizes {
			s, err := sizing.Scenario(row.Name, size, 8*time.Second)
			require.NoError(t, err)
			require.True(t, s.Target.Local)
			require.Equal(t, 8*time.Second, s.Load.Length())
			pubs, subs := s.Participants()
			switch row.Name {
			case sizing.SeriesPublishers:
				require.Equal(t, []int{size, 0}, []int{pubs, subs})
			case sizing.SeriesRecording:
				require.Equal(t, []int{size, size}, []int{pubs, subs})
				require.Equal(t, result.KindRecording, s.Kind)
			case sizing.SeriesJoins:
				require.Equal(t, []int{1, 8 * size}, []int{pubs, subs})
			default:
				require.Equal(t, []int{1, size}, []int{pubs, subs})
			}
			require.Equal(t, row.Name == sizing.SeriesAudio || row.Name == sizing.SeriesJoins, s.Media.Video == nil, row.Name)
			require.Equal(t, row.Name == sizing.SeriesTURN, s.Paths[0] == scenario.TURNUDP)
			require.Equal(t, row.Name == sizing.SeriesWitnesses, s.Witnesses == 1)
		}
	}
	_, err := sizing.Scenario("nonesuch", 1, time.Second)
	require.Error(t, err)
}

// The full sweep takes a few minutes.
func TestEstimate(t *testing.T) {
	require.Less(t, sizing.Estimate(append(sizing.Full(), sizing.Recordings(false)), 8*time.Second), 6*time.Minute)
	require.Less(t, sizing.Estimate(sizing.Quick(), 4*time.Second), 2*time.Minute)
}

func TestFigures(t *testing.T) {
	d := swept(t, nil)
	require.Empty(t, d.Stops)
	var direct, turn []sizing.Point
	for _, p := range d.Points {
		switch p.Series {
		case sizing.SeriesDirect:
			direct = append(direct, p)
		case sizing.SeriesTURN:
			turn = append(turn, p)
		}
	}
	require.Len(t, direct, 6)
	require.Len(t, turn, 4)
	p := direct[2] // 40 subscribers
	require.InEpsilon(t, 40*perStream, float64(p.Delivered.Packets), 1e-3)
	require.InEpsilon(t, 40*perStream*packet*8/1e9, float64(p.Delivered.Gbit), 1e-3)
	require.InEpsilon(t, perStream, float64(p.Sent.Packets), 1e-3)
	require.InEpsilon(t, 40*perStream*sfuMicros/1e6, float64(p.SFU.Cores), 1e-3)
	require.InEpsilon(t, sfuMicros, float64(p.SFU.MicrosPerPacket), 1e-3)
	require.InEpsilon(t, genMicros, float64(p.Generator.MicrosPerPacket), 1e-3)
	require.InEpsilon(t, sfuMicros/(packet*8.)*1e3, float64(p.SFU.CPUSecondsPerGbit), 1e-3, "µs per packet over bits per packet")
	require.InEpsilon(t, 5, float64(p.LatencyP99Ms), 1e-3)
	require.Zero(t, p.Loss)
	require.Nil(t, p.TURN)
	require.InEpsilon(t, tuMicros, float64(turn[0].TURN.MicrosPerPacket), 1e-3, "the publisher's packets are not relayed")
	require.InDelta(t, 0, float64(p.OtherCores), 1e-9)

	core := func(who, series string) sizing.Core {
		i := slices.IndexFunc(d.Cores, func(c sizing.Core) bool { return c.Who == who && c.Series == series })
		require.GreaterOrEqual(t, i, 0, "%s %s", who, series)
		return d.Cores[i]
	}
	c := core("sfu", sizing.SeriesDirect)
	require.True(t, c.Honest)
	require.Equal(t, 320, c.Size)
	require.InEpsilon(t, 1e6/sfuMicros, float64(c.Packets), 1e-3)
	require.InEpsilon(t, 1e6/sfuMicros/perStream, float64(c.Participants), 1e-3)
	require.InEpsilon(t, perPeer, float64(c.BytesPerParticipant), 1e-3)
	require.InEpsilon(t, 16/.5, float64(core("relay", sizing.SeriesRecording).Participants), 1e-3, "tracks per core")

	require.InEpsilon(t, joinSFU, float64(d.Joins.SFU), 1e-3)
	require.InEpsilon(t, joinGen, float64(d.Joins.Generator), 1e-3)
	require.InEpsilon(t, joinGen, d.Cost.JoinCPUSeconds, 1e-3)
	require.InEpsilon(t, perPeer, d.Cost.BytesPerParticipant, 1e-3)
	require.Len(t, d.Plans, 4)
	require.Equal(t, 10_000, d.Plans[1].Subscribers)
	require.False(t, d.Plans[1].Servers[0].Honest)
	require.InEpsilon(t, 10*d.Plans[0].Servers[0].Cores, d.Plans[1].Servers[0].Cores, 1e-3)
}

// A series ends at the first run that does not pass; the others go on, and no
// figure per core is from that run.
func TestStops(t *testing.T) {
	for _, c := range []struct{ result, want string }{
		{result.Fail, result.Fail}, {result.Inconclusive, result.Inconclusive}, {result.Broken, result.Broken}, {"", result.Broken},
	} {
		var said []string
		d := swept(t, func(cfg *sizing.Config) {
			cfg.Series = []sizing.Series{{Name: sizing.SeriesDirect, Sizes: []int{10, 40, 80, 160}}, {Name: sizing.SeriesTURN, Sizes: []int{10, 20}}}
			cfg.Run = breaking(50, c.result, "too late")
			cfg.Progress = func(line string) { said = append(said, line) }
		})
		require.Equal(t, []sizing.Stop{{Series: sizing.SeriesDirect, Size: 80, Why: c.want + ": too late"}}, d.Stops)
		require.Len(t, d.Points, 5, "10, 40, 80 and two through TURN")
		require.Equal(t, c.want, d.Points[2].Verdict)
		for _, core := range d.Cores {
			require.NotEqual(t, 80, core.Size)
		}
		require.Contains(t, strings.Join(said, "\n"), "direct ends here")
		require.Contains(t, d.Fragments()["direct"], "The series ended at 80 subscribers")
		require.NotContains(t, d.Fragments()["turn"], "The series ended")
	}
}

// If no run passes, the document says so and has no figures.
func TestNothingPasses(t *testing.T) {
	d := swept(t, func(c *sizing.Config) { c.Run = breaking(0, "", "no route"); c.Record = c.Run })
	require.Empty(t, d.Cores)
	require.Empty(t, d.Plans)
	require.NotEmpty(t, d.NoPlans)
	require.Contains(t, d.Fragments()["cores"], "No run passed")
	require.Contains(t, d.Fragments()["direct"], "no route")
	pictures, err := d.Pictures()
	require.NoError(t, err)
	require.Empty(t, pictures)
}

// A machine that is nearly full yields figures, each marked.
func TestBusyMachine(t *testing.T) {
	d := swept(t, func(c *sizing.Config) {
		c.Run = func(ctx context.Context, s *scenario.Scenario) (*result.Report, error) {
			r, err := made(ctx, s)
			r.Self.Busy += .7
			return r, err
		}
		c.Record = c.Run
	})
	require.NotEmpty(t, d.Cores)
	for _, c := range d.Cores {
		require.False(t, c.Honest)
	}
	require.Contains(t, d.Fragments()["cores"], "(!)")
	require.Contains(t, d.Fragments()["machine"], "not quiet")
	require.Contains(t, strings.Join(d.Cost.Assumed, "\n"), "nearly full")
}

func TestMistakes(t *testing.T) {
	all := []sizing.Series{{Name: sizing.SeriesRecording, Sizes: []int{1}}}
	_, err := sizing.Sweep(t.Context(), sizing.Config{Series: all, Hold: time.Second, Run: made})
	require.ErrorIs(t, err, sizing.ErrConfig)
	_, err = sizing.Sweep(t.Context(), sizing.Config{Series: all, Hold: 2 * time.Second, Run: made})
	require.ErrorIs(t, err, sizing.ErrConfig, "nothing records")
	stop := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	_, err = sizing.Sweep(ctx, sizing.Config{Series: sizing.Full(), Hold: 2 * time.Second, Run: func(ctx context.Context, s *scenario.Scenario) (*result.Report, error) {
		cancel(stop)
		return made(ctx, s)
	}})
	require.ErrorIs(t, err, stop)
}

// TestRealSweep measures two points of 2 s against a real LiveKit.
func TestRealSweep(t *testing.T) {
	if testing.Short() {
		t.Skip("real runs take seconds; without -short")
	}
	system, err := run.Find(t.Context(), run.FindConfig{Target: scenario.Target{Local: true}, Paths: []string{scenario.Direct}, Getenv: os.Getenv, Out: io.Discard})
	require.NoError(t, err)
	defer func() { require.NoError(t, system.Close()) }()
	d, err := sizing.Sweep(t.Context(), sizing.Config{
		Series: []sizing.Series{{Name: sizing.SeriesDirect, Sizes: []int{2, 4}}}, Hold: 2 * time.Second, Tool: run.Tool(),
		Run: func(ctx context.Context, s *scenario.Scenario) (*result.Report, error) {
			return run.Do(ctx, run.DoConfig{Scenario: s, Getenv: os.Getenv, Out: io.Discard, SUT: system})
		},
		Progress: func(line string) { t.Log(line) },
	})
	require.NoError(t, err)
	// On a noisy machine the first run may not pass and is then the only one; its
	// measurements hold nevertheless.
	require.NotEmpty(t, d.Points)
	for _, p := range d.Points {
		require.NotEqual(t, result.Broken, p.Verdict, "%v", p.Reasons)
		require.InEpsilon(t, 1.8e-3*float64(p.Subscribers), float64(p.Delivered.Gbit), .4, "1.75 Mbit/s for each, and what a packet has besides")
		require.InEpsilon(t, 1.8e-3, float64(p.Sent.Gbit), .4)
		require.Positive(t, p.Generator.Cores)
		require.Positive(t, p.SFU.Cores)
		require.Positive(t, p.Generator.Bytes)
		require.Positive(t, p.LatencyP50Ms)
	}
}
