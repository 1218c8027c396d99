package scenario_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/scenario"
)

// Each text has exactly one error.
func TestValidate(t *testing.T) {
	for text, want := range map[string]string{
		`name: "a\nb"`:            "name: want 1 to 100",
		"kind: video":             `kind: "video": want one of media, api`,
		"paths: []":               "paths: at least one",
		"paths: [direct, direct]": `paths[1]: "direct" is given twice`,
		"paths: [turn]":           `paths[0]: "turn": want one of`,
		"publish_path: turn-tcp":  `publish_path: "turn-tcp" is neither`,
		"rooms: {subscribers: 1}\npaths: [direct, turn-udp]":                              "paths: 1 subscribers cannot be dealt over 2 paths",
		"rooms: {count: 10001}":                                                           "rooms.count: 10001: want 1 to 10000",
		"rooms: {publishers: -1}":                                                         "rooms.publishers: -1: want",
		"rooms: {subscribers: 100001}":                                                    "rooms.subscribers: 100001: want",
		"rooms: {subscriptions: 2}":                                                       "rooms.subscriptions: 2: want 0 to 1",
		"rooms: {prefix: Load}":                                                           "rooms.prefix:",
		"rooms: {existing: x, count: 2}":                                                  "rooms.count: 2 rooms cannot all be the existing one",
		"rooms: {publishers: 0, subscribers: 0}":                                          "rooms: no participants",
		"media: {}":                                                                       "media: publishers have nothing to send",
		"media: {clip: 1ms, audio: {}}":                                                   "media.clip: 1ms: want 1s to 2m0s",
		"media: {audio: {bitrate: 5kbps}}":                                                "media.audio.bitrate: 5000: want",
		"media: {video: {codec: h265}}":                                                   `media.video.codec: "h265": want one of vp8, vp9, av1, h264`,
		"media: {video: {width: 641, height: 360}}":                                       "media.video.width: 641 is odd",
		"media: {video: {width: 640, height: 361}}":                                       "media.video.height: 361 is odd",
		"media: {video: {width: 8, height: 16}}":                                          "media.video.width: 8: want 16 to 3840",
		"media: {video: {fps: 61}}":                                                       "media.video.fps: 61: want 1 to 60",
		"media: {video: {bitrate: 60Mbps}}":                                               "media.video.bitrate: 60000000: want",
		"media: {video: {key_interval: 11s}}":                                             "media.video.key_interval: 11s is longer than the clip",
		"media: {video: {simulcast: 4}}":                                                  "media.video.simulcast: 4: want 1 to 3",
		"media: {video: {width: 64, height: 32, simulcast: 3}}":                           "media.video.simulcast: the smallest",
		"media: {video: {codec: av1, svc: L1T3}}":                                         "media.video.svc: L1T3 is for vp8 and vp9, not for av1",
		"media: {video: {codec: vp9, svc: L3T3_KEY, width: 644, height: 360}}":            "media.video.svc: L3T3_KEY needs a width",
		"media: {video: {fps: 1, key_interval: 500ms}}":                                   "media.video.key_interval: 500ms is shorter than a frame at 1 fps",
		"media: {video: {codec: h264, svc: L1T2}}":                                        "media.video.svc: L1T2 is for vp8 and vp9, not for h264",
		"media: {video: {codec: av1, svc: L3T3_KEY}}":                                     "media.video.svc: L3T3_KEY is for vp9 only",
		"media: {video: {codec: vp9, svc: L9T9}}":                                         `media.video.svc: "L9T9": want one of`,
		"media: {video: {codec: vp9, simulcast: 2}}":                                      "media.video.simulcast: LiveKit confuses",
		"media: {video: {codec: vp9, svc: L1T3, simulcast: 2}}":                           "media.video.simulcast: contradicts svc",
		"media: {video: {quality: best}}":                                                 `media.video.quality: "best": want one of`,
		"media: {video: {quality: low}}":                                                  `media.video.quality: "low" needs layers`,
		"load: {mode: half}":                                                              `load.mode: "half": want one of closed, open`,
		"load: {warmup: 11m}":                                                             "load.warmup: 11m0s: want",
		"load: {hold: 10ms}":                                                              "load.hold: 10ms: want",
		"load: {hold: 1s, stages: [{duration: 1s, target: 1}]}":                           "load.hold: contradicts stages, which set the duration",
		"load: {stages: [{duration: 1s, target: 1.5}]}":                                   "load.stages[0].target: 1.5: want a whole number",
		"load: {stages: [{duration: 1s, target: 11}]}":                                    "load.stages[0].target: 11: want 0 to 10",
		"load: {stages: [{duration: 2s}, {duration: -1s}]}":                               "load.stages[1].duration: -1s: want",
		"load: {stages: [{duration: 0s, target: 1}]}":                                     "load.stages: together they take less than a second",
		"load: {join_rate: 0}":                                                            "load.join_rate: 0: want",
		"load: {max_pending: 0}":                                                          "load.max_pending: 0: want",
		"load: {stay: 1s}":                                                                "load.stay: is for mode open",
		"load: {churn: {}}":                                                               "load.churn.half_life: 0s: want 1s",
		"load: {mode: open}":                                                              "load.stages: mode open needs",
		"load: {mode: open, churn: {half_life: 1m}, stages: [{duration: 1s, target: 1}]}": "load.churn: is for mode closed",
		"load: {mode: open, stay: 1ms, stages: [{duration: 1s, target: 1}]}":              "load.stay: 1ms: want",
		"load: {mode: open, stages: [{duration: 1s, target: 10001}]}":                     "load.stages[0].target: 10001: want",
		"data: {}":                                                      "data.rate: 0: want",
		"data: {rate: 1, size: 15}":                                     "data.size: 15: want 16 to 15000",
		"speakers: {active: 2}":                                         "speakers.active: 2: want 1 to 1",
		"speakers: {every: 1ms}":                                        "speakers.every: 1ms: want",
		"speakers: {}\nmedia: {video: {}}":                              "speakers: speakers need audio",
		"witnesses: 101%":                                               "witnesses: 1.01: want 0 to 1",
		"bwe: twcc":                                                     `bwe: "twcc": want one of none, remb`,
		"fault: {receive: {loss: -1%}}":                                 "fault.receive.loss: -0.01: want",
		"fault: {publish: {delay: 11s}}":                                "fault.publish.delay: 11s: want",
		"thresholds: [loss]":                                            "thresholds[0]: threshold \"loss\": not a threshold",
		"thresholds: [loss < 1%, call_p99 < 1s]":                        `thresholds[1]: "call_p99 < 1s": call_p99 is for kind api and tunnel`,
		"thresholds: [turn-udp.loss < 1%]":                              `thresholds[0]: "turn-udp.loss < 1%": "turn-udp": want one of the paths (direct) or each`,
		"target: {local: true, api: {address: 'a:1', org: o}}":          "target: set one of",
		"target: {api: {address: here, org: o}}":                        `target.api.address: "here": want host:port`,
		"target: {api: {address: 'here:1'}}":                            "target.api.org: is required",
		"target: {api: {address: 'h:1', org: o, token_env: 'eyJhb.x'}}": "target.api.token_env: want the name",
		"target: {livekit: {}}":                                         "target.livekit.url: is required",
		"target: {livekit: {url: 'ftp://x'}}":                           "target.livekit.url: want a URL that begins with ws:// or",
		"target: {livekit: {url: 'ws://u:p@x'}}":                        "target.livekit.url: contains a user or password",
		"target: {livekit: {url: 'ws://x', key_env: ''}}":               "target.livekit.key_env: want the name",
		"target: {processes: {generator: x}}":                           "target.processes.generator: want",
		"target: {sfu_metrics: here}":                                   "target.sfu_metrics: want a URL",
		"kind: recording\nrooms: {publishers: 0}":                       "rooms.publishers: without a publisher there is nothing to record",
		"kind: recording\nrecording: {share: 0}":                        "recording.share: no room is recorded",
		"kind: recording\ntarget: {livekit: {url: 'ws://x'}}":           "target.livekit: kind recording calls",
		"kind: api":                                    "api: kind api needs this section",
		"kind: api\napi: {}":                           "api.rate: 0: want",
		"kind: api\napi: {rate: 1, callers: 0}":        "api.callers: 0: want",
		"kind: api\napi: {rate: 1, mix: {join: 50%}}":  "api.mix: the shares add up to 0.5",
		"kind: api\napi: {rate: 1, mix: {leave: 1}}":   "api.mix.leave: want one of",
		"kind: api\napi: {rate: 1}\ntunnel: {}":        "tunnel: is for kind tunnel",
		"kind: tunnel\ntunnel: {sessions: 0}":          "tunnel.sessions: 0: want",
		"kind: tunnel\ntunnel: {replay: a.mp4}":        "tunnel.replay: \"a.mp4\": want a .guac file",
		"kind: tunnel\ntunnel: {rate: -1}":             "tunnel.rate: -1: want",
		"kind: api\napi: {rate: 1}\npaths: [turn-udp]": "paths: is for kinds media and recording",
		"kind: tunnel\nload: {hold: 5s}":               "load.hold: is for kinds media and recording",
		"recording: {}":                                "recording: is for kind recording",
	} {
		got := problems(t, text)
		require.Len(t, got, 1, "%s: %q", text, got)
		require.Contains(t, got[0], want, text)
	}
}

func TestValidateTURN(t *testing.T) {
	target := func(paths, turn string) string {
		return "paths: " + paths + "\ntarget: {livekit: {url: 'ws://x', turn: [" + turn + "]}}"
	}
	for _, ok := range []string{
		target("[direct, turn-udp]", "{url: 'turn:h:3478?transport=udp', secret_env: S}"),
		target("[turn-udp]", "{url: 'turn:h', username: u, credential_env: S}"),
		target("[turn-tcp]", "{url: 'turn:h:1?transport=tcp', secret_env: S}"),
		target("[turn-tls]", "{url: 'turns:h:1', secret_env: S, ca_file: ca.pem, insecure: true}"),
	} {
		parse(t, ok)
	}
	const field = "target.livekit.turn[0]"
	for text, want := range map[string]string{
		target("[turn-tcp]", "{url: 'turn:h', secret_env: S}"):                  "paths[0]: no server in target.livekit.turn serves turn-tcp",
		target("[direct]", "{url: 'stun:h', secret_env: S}"):                    field + ".url: \"stun:h\": want",
		target("[direct]", "{url: 'turns:h?transport=udp', secret_env: S}"):     field + ".url: TURN over DTLS",
		target("[direct]", "{url: 'turn:h', secret_env: S, insecure: true}"):    field + ": ca_file and insecure",
		target("[direct]", "{url: 'turn:h', secret_env: S, credential_env: C}"): field + ": set credential_env (with username) or secret_env",
		target("[direct]", "{url: 'turn:h', credential_env: C}"):                field + ".username: credential_env requires it",
		target("[direct]", "{url: 'turn:h'}"):                                   field + ": set the name",
		target("[direct]", "{url: 'turn:h', secret_env: 'my secret'}"):          field + ".secret_env: want the name",
	} {
		got := problems(t, text)
		require.Len(t, got, 1, "%s: %q", text, got)
		require.Contains(t, got[0], want)
		require.NotContains(t, got[0], "my secret", "the error does not repeat a secret")
	}
}

// Simulcast is for all codecs but VP9.
func TestSimulcastCodecs(t *testing.T) {
	for _, codec := range []string{"vp8", "av1", "h264"} {
		parse(t, "media: {video: {codec: "+codec+", simulcast: 3, quality: mixed}}")
	}
}

func TestValidateTellsAll(t *testing.T) {
	s := scenario.Scenario{Witnesses: math.NaN(), BWE: "all", PublishPath: "turn-udp"}
	s.Defaults()
	var invalid *scenario.InvalidError
	require.ErrorAs(t, s.Validate(), &invalid)
	require.Len(t, invalid.Problems, 3)
	require.Zero(t, invalid.Problems[0].Line, "there is no file")
}

// A URL's secret is never written, not even for an unchecked scenario.
func TestWritingKeepsNoSecrets(t *testing.T) {
	s := scenario.Scenario{Target: scenario.Target{SFUMetrics: "http://me:hidden@host:1/metrics"}}
	y, err := s.YAML()
	require.NoError(t, err)
	j, err := s.JSON()
	require.NoError(t, err)
	for _, text := range []string{string(y), string(j)} {
		require.NotContains(t, text, "hidden")
		require.Contains(t, text, "http://host:1/metrics")
	}
}
