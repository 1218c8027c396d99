package sizing

import (
	"fmt"
	"strings"
	"time"

	"github.com/openova-io/bp-relay/loadtest/scenario"
)

// The series of a sweep, each growing in one thing.
const (
	SeriesDirect     = "direct"     // subscribers of one publisher, directly
	SeriesTURN       = "turn-udp"   // the same through TURN over UDP
	SeriesWitnesses  = "witnesses"  // direct subscribers that all decrypt and check what they receive
	SeriesPublishers = "publishers" // publishers to whom nobody listens
	SeriesAudio      = "audio"      // subscribers of one publisher of sound alone
	SeriesJoins      = "joins"      // subscribers that join, per second
	SeriesRecording  = "recording"  // rooms of a publisher and a subscriber that are recorded
)

// Series is a row of runs.
type Series struct {
	Name string
	// Sizes grow: subscribers, publishers, joins per second or rooms.
	Sizes []int
}

// Full are the series that docs/sizing.md is made of.
func Full() []Series {
	return []Series{
		{SeriesDirect, []int{10, 20, 40, 80, 160, 320}},
		{SeriesTURN, []int{10, 40, 80, 160}},
		{SeriesWitnesses, []int{40}},
		{SeriesPublishers, []int{1, 5, 10, 20}},
		{SeriesAudio, []int{20, 50, 100, 200}},
		{SeriesJoins, []int{10}},
	}
}

// Quick are a third of the points, for a look.
func Quick() []Series {
	return []Series{
		{SeriesDirect, []int{10, 40}},
		{SeriesTURN, []int{10, 40}},
		{SeriesWitnesses, []int{20}},
		{SeriesPublishers, []int{1, 10}},
		{SeriesAudio, []int{20}},
		{SeriesJoins, []int{10}},
	}
}

// Recordings are the runs that need a relay, which is started for each.
func Recordings(quick bool) Series {
	if quick {
		return Series{SeriesRecording, []int{2}}
	}
	return Series{SeriesRecording, []int{2, 8}}
}

// The times of a run, measured: making rooms, joining publishers and settling
// the ledger take about two seconds, a relay with its parts about twenty to
// start, stop and read back.
const (
	warmup   = 3 * time.Second
	around   = 2 * time.Second
	relaying = 20 * time.Second
)

// Estimate is about how long a sweep takes.
func Estimate(all []Series, hold time.Duration) time.Duration {
	var sum time.Duration
	for _, s := range all {
		one := warmup + hold + around
		if s.Name == SeriesRecording {
			one += relaying
		}
		sum += time.Duration(len(s.Sizes)) * one
	}
	return sum
}

// The media of all runs, LiveKit's 720p preset and Opus; see docs/scenarios.md.
const (
	video = "video: {codec: vp8, width: 1280, height: 720, fps: 30, bitrate: 1.7Mbps}"
	audio = "audio: {bitrate: 48kbps}"
)

// Scenario is the run of a series at a size. Joins come at 100 a second, so that
// everybody is there when measuring begins.
func Scenario(series string, size int, hold time.Duration) (*scenario.Scenario, error) {
	var (
		kind, path, media = "media", scenario.Direct, video + ", " + audio
		rooms, pubs, subs = 1, 1, size
		thresholds        = "'loss < 0.1%', 'latency_p99 < 150ms'"
		load              = fmt.Sprintf("{warmup: %s, hold: %s, join_rate: 100}", warmup, hold)
		unheard           = "'joins_failed == 0'" // a latency that nobody measures would be missed
		recorded, more    = "'recordings_failed == 0', 'recording_gaps == 0'", ""
	)
	switch series {
	case SeriesDirect:
	case SeriesTURN:
		path = scenario.TURNUDP
	case SeriesWitnesses:
		more = "witnesses: 1"
	case SeriesPublishers:
		pubs, subs, thresholds = size, 0, unheard
	case SeriesAudio:
		media = audio
	case SeriesJoins:
		// Sound alone: what joins cost must not drown in what packets cost.
		media, thresholds, subs = audio, unheard, max(1, int(float64(size)*hold.Seconds()))
		load = fmt.Sprintf("{warmup: 1s, join_rate: 100, stages: [{duration: %s, target: %d}]}", hold, subs)
	case SeriesRecording:
		kind, rooms, subs, thresholds, more = "recording", size, 1, recorded, "recording: {share: 100%}"
	default:
		return nil, fmt.Errorf("sizing: there is no series %q", series)
	}
	text := fmt.Sprintf(`name: sizing-%s-%d
kind: %s
target: {local: true}
paths: [%s]
rooms: {count: %d, publishers: %d, subscribers: %d, prefix: sizing}
media: {%s}
load: %s
thresholds: [%s]
%s
`, series, size, kind, path, rooms, pubs, subs, media, load, thresholds, more)
	s, err := scenario.Parse("sizing", strings.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("sizing: series %s at %d: %w", series, size, err)
	}
	return s, nil
}
