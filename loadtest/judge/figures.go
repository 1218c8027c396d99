package judge

import "github.com/openova-io/bp-relay/loadtest/report"

// withRooms are the kinds of load whose participants join rooms.
func withRooms() []string { return []string{report.KindMedia, report.KindRecording} }

// figure is a metric's value, or why it has none.
type figure = func(r *report.Report, p *report.Path) (float64, string)

// ratio is part / whole in a unit that is scale times finer; of nothing, there
// is none.
func ratio(part, whole, scale float64, none string) (float64, string) {
	if whole <= 0 {
		return 0, none
	}
	return part / whole * scale, ""
}

// media are the metrics of participants and their packets.
func media() []Metric {
	share := func(name, text, none string, of func(p *report.Path) (part, whole int64)) Metric {
		return Metric{Name: name, Unit: UnitShare, Text: text, Kinds: withRooms(), value: func(_ *report.Report, p *report.Path) (float64, string) {
			part, whole := of(p)
			return ratio(float64(part), float64(whole), 100, none)
		}}
	}
	count := func(name, text string, of func(p *report.Path) int64) Metric {
		return Metric{Name: name, Unit: UnitCount, Text: text, Kinds: withRooms(), value: func(_ *report.Report, p *report.Path) (float64, string) {
			return float64(of(p)), ""
		}}
	}
	stream := func(name, unit, text string, scale float64, of func(p *report.Path) float64) Metric {
		return Metric{Name: name, Unit: unit, Text: text, Kinds: withRooms(), value: func(_ *report.Report, p *report.Path) (float64, string) {
			return ratio(of(p), p.Received.StreamSeconds, scale, "no stream was received")
		}}
	}
	const noPackets = "no packet was to be received"
	return []Metric{
		{Name: "loss", Unit: UnitShare, Kinds: withRooms(), value: loss,
			Text: "packets that did not come for good, of those that subscribers should have got; without what our own sockets dropped or failed to send"},
		{Name: "loss_publisher", Unit: UnitShare, Kinds: withRooms(), value: hopLoss(report.HopPublisher),
			Text: "the part of the loss that happened between publisher and SFU (ledger)"},
		{Name: "loss_subscriber", Unit: UnitShare, Kinds: withRooms(), value: hopLoss(report.HopSubscriber),
			Text: "the part of the loss that happened between SFU and subscriber (ledger)"},
		stream("bitrate", UnitBitrate, "received bits per second and stream, RTP header to SRTP tag, on average", 8,
			func(p *report.Path) float64 { return float64(p.Received.Bytes) }),
		share("joins_failed", "joins that failed, of those attempted", "nobody tried to join",
			func(p *report.Path) (int64, int64) { return int64(p.Joins.Failed), int64(p.Joins.Attempted) }),
		{Name: "dropped", Unit: UnitShare, value: dropped,
			Text: "joins (kinds api and tunnel: calls) that were due and not begun since too many were under way, of all that were due"},
		stream("freezes", UnitPerMinute, "freezes (W3C freezeCount) per minute of a stream", 60,
			func(p *report.Path) float64 { return float64(p.Received.Freezes) }),
		stream("frozen", UnitShare, "time in freezes, of the time that streams lived", 100,
			func(p *report.Path) float64 { return p.Received.FreezeSeconds }),
		share("broken_frames", "frames of which a packet never came, or the end was left out by the SFU when it went to another layer, of all frames", "no frame was received",
			func(p *report.Path) (int64, int64) {
				return p.Received.FramesBroken, p.Received.Frames + p.Received.FramesBroken
			}),
		share("reordered", "packets that came after a later one without being asked for again, of those received", noPackets,
			func(p *report.Path) (int64, int64) { return p.Received.Reordered, p.Received.Packets }),
		share("duplicates", "packets that came once more, against those received", noPackets,
			func(p *report.Path) (int64, int64) { return p.Received.Duplicates, p.Received.Packets }),
		share("recovered", "packets that came after a NACK of ours, of those received", noPackets,
			func(p *report.Path) (int64, int64) { return p.Received.Recovered, p.Received.Packets }),
		share("retransmitted", "packets that publishers sent again, against those sent", "no packet was sent",
			func(p *report.Path) (int64, int64) { return p.Sent.Retransmitted, p.Sent.Packets }),
		count("reconnects", "participants that had to connect again", func(p *report.Path) int64 { return int64(p.Joins.Reconnects) }),
		count("wrong_path", "participants on another path than theirs; more than 0 makes the run an error anyway", func(p *report.Path) int64 { return int64(p.Wrong) }),
		count("undecryptable", "packets that witnesses could not authenticate", func(p *report.Path) int64 { return p.Received.Undecryptable }),
	}
}

// loss is without our own hops: what we lost is never blamed on the system.
func loss(r *report.Report, p *report.Path) (float64, string) {
	lost := p.Received.Lost
	for _, hop := range []string{report.HopOwnSend, report.HopOwnReceive} {
		n, _ := ledger(r, p, hop)
		lost -= n
	}
	return ratio(float64(max(lost, 0)), float64(p.Received.Expected), 100, "no packet was to be received")
}

func hopLoss(hop string) figure {
	return func(r *report.Report, p *report.Path) (float64, string) {
		n, ok := ledger(r, p, hop)
		if !ok {
			return 0, "the run has no packet ledger of this hop"
		}
		return ratio(float64(n), float64(p.Received.Expected), 100, "no packet was to be received")
	}
}

// ledger is what was lost on a hop of a path; of the total, where it has no
// lines of its own, on all paths together.
func ledger(r *report.Report, p *report.Path, hop string) (packets int64, found bool) {
	var sum int64
	var any bool
	for _, h := range r.Ledger {
		if h.Hop != hop {
			continue
		}
		if h.Path == p.Name {
			packets, found = packets+h.Packets, true
		}
		if h.Path != report.Total {
			sum, any = sum+h.Packets, true
		}
	}
	if !found && p == &r.Total {
		return sum, any
	}
	return packets, found
}

func dropped(_ *report.Report, p *report.Path) (float64, string) {
	part, done := int64(p.Joins.Dropped), int64(p.Joins.Attempted)
	if p.Calls != nil {
		part, done = part+p.Calls.Dropped, done+p.Calls.Attempted
	}
	return ratio(float64(part), float64(part+done), 100, "nothing was due")
}
