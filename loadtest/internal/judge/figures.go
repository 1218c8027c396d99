package judge

import "github.com/openova-io/bp-relay/loadtest/internal/result"

// withRooms are the kinds of load whose participants join rooms.
func withRooms() []string { return []string{result.KindMedia, result.KindRecording} }

// figure is a metric's value, or why it has none.
type figure = func(r *result.Report, p *result.Path) (float64, string)

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
	share := func(name, text, none string, of func(p *result.Path) (part, whole int64)) Metric {
		return Metric{Name: name, Unit: UnitShare, Text: text, Kinds: withRooms(), value: func(_ *result.Report, p *result.Path) (float64, string) {
			part, whole := of(p)
			return ratio(float64(part), float64(whole), 100, none)
		}}
	}
	count := func(name, text string, of func(p *result.Path) int64) Metric {
		return Metric{Name: name, Unit: UnitCount, Text: text, Kinds: withRooms(), value: func(_ *result.Report, p *result.Path) (float64, string) {
			return float64(of(p)), ""
		}}
	}
	stream := func(name, unit, text string, scale float64, of func(p *result.Path) float64) Metric {
		return Metric{Name: name, Unit: unit, Text: text, Kinds: withRooms(), value: func(_ *result.Report, p *result.Path) (float64, string) {
			return ratio(of(p), p.Received.StreamSeconds, scale, "no stream was received")
		}}
	}
	const noPackets = "no packet was to be received"
	return []Metric{
		{Name: "loss", Unit: UnitShare, Kinds: withRooms(), value: loss,
			Text: "packets lost, of those expected by subscribers; without what the generator's own sockets dropped or failed to send"},
		{Name: "loss_publisher", Unit: UnitShare, Kinds: withRooms(), value: hopLoss(result.HopPublisher),
			Text: "the part of the loss that happened between publisher and SFU (loss attribution)"},
		{Name: "loss_subscriber", Unit: UnitShare, Kinds: withRooms(), value: hopLoss(result.HopSubscriber),
			Text: "the part of the loss that happened between SFU and subscriber (loss attribution)"},
		stream("bitrate", UnitBitrate, "received bits per second and stream, RTP header to SRTP tag, on average", 8,
			func(p *result.Path) float64 { return float64(p.Received.Bytes) }),
		share("joins_failed", "joins that failed, of those attempted", "no join was attempted",
			func(p *result.Path) (int64, int64) { return int64(p.Joins.Failed), int64(p.Joins.Attempted) }),
		{Name: "dropped", Unit: UnitShare, value: dropped,
			Text: "joins (kinds api and tunnel: calls) that were due and not started because too many were under way, of all that were due"},
		stream("freezes", UnitPerMinute, "freezes (W3C freezeCount) per minute of a stream", 60,
			func(p *result.Path) float64 { return float64(p.Received.Freezes) }),
		stream("frozen", UnitShare, "time in freezes, of the streams' lifetime", 100,
			func(p *result.Path) float64 { return p.Received.FreezeSeconds }),
		share("broken_frames", "frames that lack a packet, or whose end the SFU left out when it switched layers, of all frames", "no frame was received",
			func(p *result.Path) (int64, int64) {
				return p.Received.FramesBroken, p.Received.Frames + p.Received.FramesBroken
			}),
		share("reordered", "packets received after a higher sequence number without a NACK, of those received", noPackets,
			func(p *result.Path) (int64, int64) { return p.Received.Reordered, p.Received.Packets }),
		share("duplicates", "packets received again, against those received", noPackets,
			func(p *result.Path) (int64, int64) { return p.Received.Duplicates, p.Received.Packets }),
		share("recovered", "packets received after a NACK, of those received", noPackets,
			func(p *result.Path) (int64, int64) { return p.Received.Recovered, p.Received.Packets }),
		share("retransmitted", "packets that publishers retransmitted, against those sent", "no packet was sent",
			func(p *result.Path) (int64, int64) { return p.Sent.Retransmitted, p.Sent.Packets }),
		count("reconnects", "participants that were disconnected and connected again", func(p *result.Path) int64 { return int64(p.Joins.Reconnects) }),
		count("wrong_path", "participants on the wrong path; more than 0 makes the run an error", func(p *result.Path) int64 { return int64(p.Wrong) }),
		count("undecryptable", "packets that witnesses could not authenticate", func(p *result.Path) int64 { return p.Received.Undecryptable }),
	}
}

// loss excludes the generator's own hops: its losses are never attributed to the
// system under test.
func loss(r *result.Report, p *result.Path) (float64, string) {
	lost := p.Received.Lost
	for _, hop := range []string{result.HopOwnSend, result.HopOwnReceive} {
		n, _ := lostOn(r, p, hop)
		lost -= n
	}
	return ratio(float64(max(lost, 0)), float64(p.Received.Expected), 100, "no packet was to be received")
}

func hopLoss(hop string) figure {
	return func(r *result.Report, p *result.Path) (float64, string) {
		n, ok := lostOn(r, p, hop)
		if !ok {
			return 0, "the run did not attribute losses to this hop"
		}
		return ratio(float64(n), float64(p.Received.Expected), 100, "no packet was to be received")
	}
}

// lostOn returns what was lost on a hop of a path; for the total, if it has no
// lines of its own, on all paths together.
func lostOn(r *result.Report, p *result.Path, hop string) (packets int64, found bool) {
	var sum int64
	var any bool
	for _, h := range r.LossAttribution {
		if h.Hop != hop {
			continue
		}
		if h.Path == p.Name {
			packets, found = packets+h.Packets, true
		}
		if h.Path != result.Total {
			sum, any = sum+h.Packets, true
		}
	}
	if !found && p == &r.Total {
		return sum, any
	}
	return packets, found
}

func dropped(_ *result.Report, p *result.Path) (float64, string) {
	part, done := int64(p.Joins.Dropped), int64(p.Joins.Attempted)
	if p.Calls != nil {
		part, done = part+p.Calls.Dropped, done+p.Calls.Attempted
	}
	return ratio(float64(part), float64(part+done), 100, "nothing was due")
}
