package sizing

import (
	"fmt"
	"strings"
	"time"

	"github.com/openova-io/bp-relay/loadtest/internal/scenario"
)

// The series of a sweep; one number grows in each.
const (
	SeriesDirect     = "direct"     // subscribers of one publisher, direct
	SeriesTURN       = "turn-udp"   // the same through TURN over UDP
	SeriesWitnesses  = "witnesses"  // direct subscribers that are all witnesses
	SeriesPublishers = "publishers" // publishers without subscribers
	SeriesAudio      = "audio"      // subscribers of one publisher of audio only
	SeriesJoins      = "joins"      // subscribers that join, per second
	SeriesRecording  = "recording"  // recorded rooms of a publisher and a subscriber
)

// Series is a sequence of runs of growing size.
type Series struct {
	Name string
	// Sizes are numbers of subscribers, publishers, joins per second or rooms,
	// growing.
	Sizes []int
}

// Full returns the series of docs/sizing.md.
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

// Quick returns a third of the points.
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

// Recordings returns the runs that need a relay, which is started for each.
func Recordings(quick bool) Series {
	if quick {
		return Series{SeriesRecording, []int{2}}
	}
	return Series{SeriesRecording, []int{2, 8}}
}

// The durations of a run's parts, as measured: creating rooms, joining publishers
// and attributing losses take about two seconds; starting and stopping a relay
// with its parts and reading back take about twenty.
const (
	warmup   = 3 * time.Second
	around   = 2 * time.Second
	relaying = 20 * time.Second
)

// Estimate returns the approximate duration of a sweep.
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

// Scenario returns the run of a series at a size. It joins 100 participants a
// second, so that all have joined when the measured part begins.
func Scenario(series string, size int, hold time.Duration) (*scenario.Scenario, error) {
	var (
		kind, path, media = "media", scenario.Direct, video + ", " + audio
		rooms, pubs, subs = 1, 1, size
		thresholds        = "'loss < 0.1%', 'latency_p99 < 150ms'"
		load              = fmt.Sprintf("{warmup: %s, hold: %s, join_rate: 100}", warmup, hold)
		unheard           = "'joins_failed == 0'" // there is no latency to measure
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
		// Audio only: packets must not cost much more than joins.
		media, thresholds, subs = audio, unheard, max(1, int(float64(size)*hold.Seconds()))
		load = fmt.Sprintf("{warmup: 1s, join_rate: 100, stages: [{duration: %s, target: %d}]}", hold, subs)
	case SeriesRecording:
		kind, rooms, subs, thresholds, more = "recording", size, 1, recorded, "recording: {share: 100%}"
	default:
		return nil, fmt.Errorf("sizing: unknown series %q", series)
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
