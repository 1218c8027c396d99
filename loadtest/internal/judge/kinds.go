package judge

import "github.com/openova-io/bp-relay/loadtest/internal/result"

// messages are the metrics of the data channels.
func messages() []Metric {
	return []Metric{{
		Name: "message_loss", Unit: UnitShare, Kinds: withRooms(), Text: "data messages lost, of those that subscribers were to receive",
		value: func(_ *result.Report, p *result.Path) (float64, string) {
			lost := float64(p.Received.MessagesLost)
			return ratio(lost, lost+float64(p.Received.Messages), 100, "no data message was to be received")
		},
	}}
}

// calls are the metrics of the kinds api and tunnel.
func calls() []Metric {
	of := func(f func(r *result.Report, c *result.Calls) (float64, string)) figure {
		return func(r *result.Report, p *result.Path) (float64, string) {
			if p.Calls == nil {
				return 0, "the run made no calls"
			}
			return f(r, p.Calls)
		}
	}
	kinds := []string{result.KindAPI, result.KindTunnel}
	return []Metric{
		{Name: "calls_failed", Unit: UnitShare, Kinds: kinds, Text: "calls (kind tunnel: sessions) that failed, of those attempted",
			value: of(func(_ *result.Report, c *result.Calls) (float64, string) {
				return ratio(float64(c.Failed), float64(c.Attempted), 100, "no call was attempted")
			})},
		{Name: "rate", Unit: UnitPerSecond, Kinds: kinds, Text: "calls (sessions) that succeeded, per second of the measured part",
			value: of(func(r *result.Report, c *result.Calls) (float64, string) {
				return ratio(float64(c.Succeeded), r.Seconds, 1, "the measured part has no length")
			})},
	}
}

// recordings are the metrics of the kind recording.
func recordings() []Metric {
	count := func(name, text string, of func(c *result.Recordings) int) Metric {
		return Metric{Name: name, Unit: UnitCount, Kinds: []string{result.KindRecording}, Text: text,
			value: func(_ *result.Report, p *result.Path) (float64, string) {
				if p.Recordings == nil {
					return 0, "the run recorded nothing"
				}
				return float64(of(p.Recordings)), ""
			}}
	}
	return []Metric{
		count("recordings_failed", "recordings that failed", func(c *result.Recordings) int { return c.Failed }),
		count("recording_gaps", "gaps in recordings", func(c *result.Recordings) int { return c.Gaps }),
	}
}

// processes are the processors that were used; they are of the whole run.
func processes() []Metric {
	var out []Metric
	for _, name := range []string{"sfu", "turn", "relay", "seaweedfs", "generator"} {
		out = append(out, Metric{
			Name: name + "_cores", Unit: UnitCores, Global: true, Text: "processors that " + name + " used on average, if it runs on a measured machine",
			value: func(r *result.Report, _ *result.Path) (float64, string) {
				sum, found := 0.0, false
				for _, p := range r.Processes {
					if p.Name == name {
						sum, found = sum+p.Cores, true
					}
				}
				if !found {
					return 0, "no process of that name runs on a measured machine"
				}
				return sum, ""
			},
		})
	}
	return out
}

// distribution is a histogram of a path, of which there is a metric for each stat.
type distribution struct {
	name, text string
	kinds      []string
	of         func(p *result.Path) *result.Hist
}

func distributions() []distribution {
	called := func(of func(c *result.Calls) *result.Hist) func(p *result.Path) *result.Hist {
		return func(p *result.Path) *result.Hist {
			if p.Calls == nil {
				return nil
			}
			return of(p.Calls)
		}
	}
	recorded := func(of func(c *result.Recordings) *result.Hist) func(p *result.Path) *result.Hist {
		return func(p *result.Path) *result.Hist {
			if p.Recordings == nil {
				return nil
			}
			return of(p.Recordings)
		}
	}
	callKinds, recording := []string{result.KindAPI, result.KindTunnel}, []string{result.KindRecording}
	return []distribution{
		{"latency", "one-way latency", withRooms(), func(p *result.Path) *result.Hist { return p.Latency }},
		{"jitter", "interarrival jitter (RFC 3550 6.4.1)", withRooms(), func(p *result.Path) *result.Hist { return p.Jitter }},
		{"join", "time from a due join to a working transport", withRooms(), func(p *result.Path) *result.Hist { return p.Joins.Time }},
		{"first_packet", "time from a due join to the first packet", withRooms(), func(p *result.Path) *result.Hist { return p.Joins.FirstPacket }},
		{"first_frame", "time from a due join to the first complete key frame", withRooms(), func(p *result.Path) *result.Hist { return p.Joins.FirstFrame }},
		{"message_latency", "latency of data messages", withRooms(), func(p *result.Path) *result.Hist { return p.Received.MessageLatency }},
		{"call", "time from a due call to its answer", callKinds, called(func(c *result.Calls) *result.Hist { return c.Time })},
		{"update", "latency of desktop updates", []string{result.KindTunnel}, called(func(c *result.Calls) *result.Hist { return c.Update })},
		{"record_start", "time from StartRecording until the recording runs", recording, recorded(func(c *result.Recordings) *result.Hist { return c.Start })},
		{"record_stop", "time from StopRecording until the recording is sealed", recording, recorded(func(c *result.Recordings) *result.Hist { return c.Stop })},
	}
}
