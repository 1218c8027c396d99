package judge

import "github.com/openova-io/bp-relay/loadtest/report"

// messages are the metrics of the data channels.
func messages() []Metric {
	return []Metric{{
		Name: "message_loss", Unit: UnitShare, Kinds: withRooms(), Text: "data messages that did not come, of those that subscribers should have got",
		value: func(_ *report.Report, p *report.Path) (float64, string) {
			lost := float64(p.Received.MessagesLost)
			return ratio(lost, lost+float64(p.Received.Messages), 100, "no data message was to be received")
		},
	}}
}

// calls are the metrics of the kinds api and tunnel.
func calls() []Metric {
	of := func(f func(r *report.Report, c *report.Calls) (float64, string)) figure {
		return func(r *report.Report, p *report.Path) (float64, string) {
			if p.Calls == nil {
				return 0, "the run made no calls"
			}
			return f(r, p.Calls)
		}
	}
	kinds := []string{report.KindAPI, report.KindTunnel}
	return []Metric{
		{Name: "calls_failed", Unit: UnitShare, Kinds: kinds, Text: "calls (kind tunnel: sessions) that failed, of those attempted",
			value: of(func(_ *report.Report, c *report.Calls) (float64, string) {
				return ratio(float64(c.Failed), float64(c.Attempted), 100, "no call was attempted")
			})},
		{Name: "rate", Unit: UnitPerSecond, Kinds: kinds, Text: "calls (sessions) that succeeded, per second of the measured part",
			value: of(func(r *report.Report, c *report.Calls) (float64, string) {
				return ratio(float64(c.Succeeded), r.Seconds, 1, "the measured part has no length")
			})},
	}
}

// recordings are the metrics of the kind recording.
func recordings() []Metric {
	count := func(name, text string, of func(c *report.Recordings) int) Metric {
		return Metric{Name: name, Unit: UnitCount, Kinds: []string{report.KindRecording}, Text: text,
			value: func(_ *report.Report, p *report.Path) (float64, string) {
				if p.Recordings == nil {
					return 0, "the run recorded nothing"
				}
				return float64(of(p.Recordings)), ""
			}}
	}
	return []Metric{
		count("recordings_failed", "recordings that failed", func(c *report.Recordings) int { return c.Failed }),
		count("recording_gaps", "gaps in recordings", func(c *report.Recordings) int { return c.Gaps }),
	}
}

// processes are the processors that were used; they are of the whole run.
func processes() []Metric {
	var out []Metric
	for _, name := range []string{"sfu", "turn", "relay", "seaweedfs", "generator"} {
		out = append(out, Metric{
			Name: name + "_cores", Unit: UnitCores, Global: true, Text: "processors that " + name + " used on average, where it runs on a measured machine",
			value: func(r *report.Report, _ *report.Path) (float64, string) {
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
	of         func(p *report.Path) *report.Hist
}

func distributions() []distribution {
	called := func(of func(c *report.Calls) *report.Hist) func(p *report.Path) *report.Hist {
		return func(p *report.Path) *report.Hist {
			if p.Calls == nil {
				return nil
			}
			return of(p.Calls)
		}
	}
	recorded := func(of func(c *report.Recordings) *report.Hist) func(p *report.Path) *report.Hist {
		return func(p *report.Path) *report.Hist {
			if p.Recordings == nil {
				return nil
			}
			return of(p.Recordings)
		}
	}
	callKinds, recording := []string{report.KindAPI, report.KindTunnel}, []string{report.KindRecording}
	return []distribution{
		{"latency", "one-way latency", withRooms(), func(p *report.Path) *report.Hist { return p.Latency }},
		{"jitter", "interarrival jitter (RFC 3550 6.4.1)", withRooms(), func(p *report.Path) *report.Hist { return p.Jitter }},
		{"join", "time from a due join to a working transport", withRooms(), func(p *report.Path) *report.Hist { return p.Joins.Time }},
		{"first_packet", "time from a due join to the first packet", withRooms(), func(p *report.Path) *report.Hist { return p.Joins.FirstPacket }},
		{"first_frame", "time from a due join to the first whole key frame", withRooms(), func(p *report.Path) *report.Hist { return p.Joins.FirstFrame }},
		{"message_latency", "latency of data messages", withRooms(), func(p *report.Path) *report.Hist { return p.Received.MessageLatency }},
		{"call", "time from a due call to its answer", callKinds, called(func(c *report.Calls) *report.Hist { return c.Time })},
		{"update", "latency of desktop updates", []string{report.KindTunnel}, called(func(c *report.Calls) *report.Hist { return c.Update })},
		{"record_start", "time from StartRecording until it runs", recording, recorded(func(c *report.Recordings) *report.Hist { return c.Start })},
		{"record_stop", "time from StopRecording until it is sealed", recording, recorded(func(c *report.Recordings) *report.Hist { return c.Stop })},
	}
}
