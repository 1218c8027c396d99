package scenario_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/scenario"
)

func parse(t *testing.T, text string) *scenario.Scenario {
	t.Helper()
	s, err := scenario.Parse("test.yaml", strings.NewReader(text))
	require.NoError(t, err)
	return s
}

// problems are those of a text, "field: text" each.
func problems(t *testing.T, text string) []string {
	t.Helper()
	_, err := scenario.Parse("test.yaml", strings.NewReader(text))
	var invalid *scenario.InvalidError
	require.True(t, errors.As(err, &invalid), "%v in %s", err, text)
	var out []string
	for _, p := range invalid.Problems {
		out = append(out, p.Field+": "+p.Text)
	}
	return out
}

func TestParseFillsInDefaults(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "media:\n", "{}"} {
		s := parse(t, text)
		yes := true
		want := scenario.Scenario{
			Name: "test", Kind: "media", Paths: []string{"direct"}, PublishPath: "direct",
			Rooms: scenario.Rooms{Count: 1, Publishers: 1, Subscribers: 10, Prefix: "loadtest"},
			Media: scenario.Media{
				Video: &scenario.Video{Codec: "vp8", Width: 1280, Height: 720, FPS: 30, Bitrate: 1_700_000, Simulcast: 1, KeyInterval: 2 * time.Second, Quality: "high"},
				Audio: &scenario.Audio{Bitrate: 48_000}, Clip: 10 * time.Second,
			},
			Load:      scenario.Load{Mode: "closed", Warmup: 3 * time.Second, Hold: 30 * time.Second, JoinRate: 50, MaxPending: 200},
			Witnesses: .05, BWE: "none", NACK: &yes,
		}
		require.EqualExportedValues(t, want, *s)
	}
}

// The defaults of a scenario made in Go are the same as those of an empty file.
func TestDefaultsWithoutAFile(t *testing.T) {
	s := scenario.Scenario{Name: "test"}
	s.Defaults()
	require.NoError(t, s.Validate())
	require.EqualExportedValues(t, *parse(t, ""), s)
	s.Defaults()
	require.EqualExportedValues(t, *parse(t, ""), s)
}

// A given value stays, even if it is empty.
func TestGivenZerosStay(t *testing.T) {
	s := parse(t, "witnesses: 0\nnack: false\nload: {warmup: 0s}\nrooms: {subscribers: 0}\nmedia: {}\ndata: {rate: 1}")
	require.Zero(t, s.Witnesses)
	require.False(t, *s.NACK)
	require.Zero(t, s.Load.Warmup)
	require.Zero(t, s.Rooms.Subscribers)
	require.Nil(t, s.Media.Video)
	require.Nil(t, s.Media.Audio)
	again, err := s.YAML()
	require.NoError(t, err)
	require.EqualExportedValues(t, *s, *parse(t, string(again)))

	require.Zero(t, parse(t, "rooms: {existing: theirs}").Rooms.Publishers)
	require.Nil(t, parse(t, "media: {audio: {}}").Media.Video, "audio alone")
}

func TestParseUnits(t *testing.T) {
	s := parse(t, `
witnesses: 20%
media: {video: {bitrate: 300kbps}, audio: {bitrate: 32000}}
load: {hold: 1m30s, join_rate: 2.5}
fault: {publish: {loss: 0.5%, delay: 20ms}}
seed: 18446744073709551615
`)
	require.InDelta(t, .2, s.Witnesses, 1e-12)
	require.Equal(t, 300_000, s.Media.Video.Bitrate)
	require.Equal(t, 32_000, s.Media.Audio.Bitrate)
	require.Equal(t, 90*time.Second, s.Load.Hold)
	require.InDelta(t, 2.5, s.Load.JoinRate, 0)
	require.InDelta(t, .005, s.Fault.Publish.Loss, 1e-12)
	require.Equal(t, 20*time.Millisecond, s.Fault.Publish.Delay)
	require.Equal(t, uint64(1<<64-1), s.Seed)
}

// YAML anchors work.
func TestParseAliases(t *testing.T) {
	s := parse(t, "load:\n  stages:\n  - &hold {duration: 10s, target: 5}\n  - *hold\n")
	require.Equal(t, s.Load.Stages[0], s.Load.Stages[1])
}

func TestParseTellsAllAtOnceWithPlaces(t *testing.T) {
	_, err := scenario.Parse("bad.yaml", strings.NewReader(`name: bad
rooms:
  cuont: 3
  publishers: 2.5
media:
  bitrate: 3
load: {hold: 30}
rooms: {}
thresholds: loss
nack: perhaps
target: yes
paths: [[direct]]
`))
	require.EqualError(t, err, strings.TrimSpace(`
bad.yaml:3:3: rooms.cuont: is not a key; did you mean count?
bad.yaml:4:15: rooms.publishers: "2.5": want a whole number
bad.yaml:6:3: media.bitrate: is not a key; did you mean media.video.bitrate?
bad.yaml:7:14: load.hold: "30": want a duration, such as 30s, 5m or 1h30m
bad.yaml:8:1: rooms: is given twice, first in line 2
bad.yaml:9:13: thresholds: want a list, [a, b] or a line "- a" for each
bad.yaml:10:7: nack: "perhaps": want true or false
bad.yaml:11:9: target: want keys, "key: value"
bad.yaml:12:9: paths[0]: want one value, not a list or keys
`))
}

func TestParseBoundsHavePlaces(t *testing.T) {
	_, err := scenario.Parse("bad.yaml", strings.NewReader("rooms:\n  count: 0\nload:\n  stages:\n  - {duration: 1s, target: 11}\n"))
	require.EqualError(t, err, "bad.yaml:2:10: rooms.count: 0: want 1 to 10000\nbad.yaml:5:28: load.stages[0].target: 11: want 0 to 0")
}

func TestParseRefusesWhatIsNoScenario(t *testing.T) {
	for text, says := range map[string]string{
		"a: [":                        "did not find",
		"name: a\n---\nname: b":       "one scenario",
		strings.Repeat("#", 1<<20+10): "check that it is a scenario",
	} {
		_, err := scenario.Parse("test.yaml", strings.NewReader(text))
		require.ErrorContains(t, err, says)
		require.ErrorContains(t, err, "test.yaml")
	}
	require.Equal(t, []string{": want keys, \"key: value\""}, problems(t, "just text"))
}

func TestReadFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mine.yaml")
	require.NoError(t, os.WriteFile(file, []byte("rooms: {count: 2}"), 0o600))
	s, err := scenario.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "mine", s.Name)
	_, err = scenario.ReadFile(file + "s")
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestSet(t *testing.T) {
	s := parse(t, "media: {audio: {}}")
	for field, value := range map[string]string{
		"media.video.codec": "vp9", "media.video.bitrate": "1Mbps", "paths": "[direct, turn-udp]", "witnesses": "0",
		"load.stages": "[{duration: 10s, target: 5}]", "target.livekit.url": "ws://127.0.0.1:7880", "target.processes.sfu": "livekit-server",
	} {
		require.NoError(t, s.Set(field, value), field)
	}
	s.Defaults()
	require.NoError(t, s.Validate())
	require.Equal(t, "vp9", s.Media.Video.Codec)
	require.Equal(t, 1_000_000, s.Media.Video.Bitrate)
	require.Equal(t, 1280, s.Media.Video.Width)
	require.Equal(t, []string{"direct", "turn-udp"}, s.Paths)
	require.Zero(t, s.Witnesses)
	require.Equal(t, 10*time.Second, s.Load.Length(), "the default hold gives way to stages")
	require.Equal(t, "LIVEKIT_API_KEY", s.Target.LiveKit.KeyEnv)
	require.Equal(t, map[string]string{"sfu": "livekit-server"}, s.Target.Processes)

	// A section replaces, and null removes a key.
	require.NoError(t, s.Set("media", "{audio: {bitrate: 24kbps}}"))
	require.Nil(t, s.Media.Video)
	require.NoError(t, s.Set("media.video", "{fps: 15}"))
	require.NoError(t, s.Set("media.video.codec", "vp9"))
	require.EqualValues(t, 15, s.Media.Video.FPS)
	require.EqualValues(t, 24000, s.Media.Audio.Bitrate)
	require.NoError(t, s.Set("media.video", "null"))
	require.Nil(t, s.Media.Video)
	require.NoError(t, s.Set("media.video.fps", "null"))
	require.NoError(t, s.Set("media", "{}"))
	require.Nil(t, s.Media.Audio)
	require.EqualError(t, s.Set("media.video.codek", "vp8"), "media.video.codek: is not a key; did you mean codec?")
	require.ErrorContains(t, s.Set("rooms.count", "many"), "not a number")
	require.ErrorContains(t, s.Set("rooms.count", ""), "no value")
	require.ErrorContains(t, s.Set("rooms", "{"), "set rooms")
}

// For any bytes, Parse returns, and it accepts its own output.
func FuzzParse(f *testing.F) {
	for _, name := range scenario.Library() {
		text, err := scenario.Source(name)
		require.NoError(f, err)
		f.Add(text)
	}
	f.Add([]byte("a: &a [*a]\nload: {stages: [{duration: 1s}, null]}\n<<: {name: x}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := scenario.Parse("fuzz.yaml", strings.NewReader(string(text)))
		if err != nil {
			return
		}
		y, err := s.YAML()
		require.NoError(t, err)
		again, err := scenario.Parse("fuzz.yaml", strings.NewReader(string(y)))
		require.NoError(t, err, string(y))
		require.EqualExportedValues(t, *s, *again)
		_, err = s.JSON()
		require.NoError(t, err)
	})
}
