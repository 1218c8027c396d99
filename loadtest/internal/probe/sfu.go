package probe

// SFU holds LiveKit's counters (v1.11, pkg/telemetry/prometheus), for all rooms
// of the node together. In is what it received, Out what it sent.
//
// LiveKit updates them for each track every 5 s and when the track ends
// (pkg/sfu/connectionquality): after a run, end the tracks and then read.
type SFU struct {
	// PacketsIn counts media packets from publishers, retransmissions included;
	// PacketsOut those to subscribers without retransmissions; both include
	// padding.
	PacketsIn, PacketsOut int64
	BytesIn, BytesOut     int64
	// RetransmitsOut counts packets retransmitted to subscribers.
	RetransmitsOut, RetransmitBytesOut int64
	// NACKsIn counts packets that the SFU requested again from publishers, NACKsOut
	// those that subscribers requested again.
	NACKsIn, NACKsOut int64
	PLIsIn, PLIsOut   int64
	FIRsIn, FIRsOut   int64
	// LostIn counts packets from publishers that the SFU did not receive; LostOut
	// those that subscribers reported lost (RTCP).
	LostIn, LostOut             int64
	OutOfOrderIn, OutOfOrderOut int64
	// NodePackets and NodeDropped count the packets of the node's queueing
	// disciplines, of all its traffic; -1 if the server does not report them.
	NodePackets, NodeDropped int64
	// Joins counts joins by the state they reached: signal_connected,
	// signal_failed, rtc_init, rtc_connected, rtc_canceled.
	Joins map[string]int64
	// Forwarded is the number of packets whose forwarding was timed, and
	// ForwardNanoseconds the sum of their forwarding times.
	Forwarded          uint64
	ForwardNanoseconds float64
	// Gauges: current numbers. A difference has those of the later reading.
	Rooms, Participants, Published, Subscribed int
}

const (
	incoming = "incoming"
	outgoing = "outgoing"
)

// SFU reads LiveKit's counters. ok is false if the metrics are not LiveKit's.
func (m Metrics) SFU() (s SFU, ok bool) {
	if !m.Has("livekit_room_total") {
		return SFU{}, false
	}
	packets := func(name, direction, transmission string) int64 {
		return m.count(name, "direction", direction, "transmission", transmission)
	}
	// LiveKit does not distinguish upstream retransmissions
	// (pkg/telemetry/stats.go).
	s = SFU{
		PacketsIn: m.count("livekit_packet_total", "direction", incoming), PacketsOut: packets("livekit_packet_total", outgoing, "initial"),
		BytesIn: m.count("livekit_packet_bytes", "direction", incoming), BytesOut: packets("livekit_packet_bytes", outgoing, "initial"),
		RetransmitsOut:     packets("livekit_packet_total", outgoing, "retransmit"),
		RetransmitBytesOut: packets("livekit_packet_bytes", outgoing, "retransmit"),
		NodePackets:        -1, NodeDropped: -1,
		Joins: map[string]int64{},
		Rooms: int(m.Sum("livekit_room_total")), Participants: int(m.Sum("livekit_participant_total")),
		Published: int(m.Sum("livekit_track_published_total")), Subscribed: int(m.Sum("livekit_track_subscribed_total")),
	}
	for _, c := range []struct {
		name    string
		in, out *int64
	}{
		{"livekit_nack_total", &s.NACKsIn, &s.NACKsOut},
		{"livekit_pli_total", &s.PLIsIn, &s.PLIsOut},
		{"livekit_fir_total", &s.FIRsIn, &s.FIRsOut},
		{"livekit_packet_loss_total", &s.LostIn, &s.LostOut},
		{"livekit_packet_out_of_order_total", &s.OutOfOrderIn, &s.OutOfOrderOut},
	} {
		*c.in, *c.out = m.count(c.name, "direction", incoming), m.count(c.name, "direction", outgoing)
	}
	if m.Has("livekit_node_packet_total") {
		s.NodePackets, s.NodeDropped = m.count("livekit_node_packet_total", "type", "out"), m.count("livekit_node_packet_total", "type", "dropped")
	}
	for state, n := range m.By("state", "livekit_participant_join_total") {
		s.Joins[state] = int64(n)
	}
	s.Forwarded, s.ForwardNanoseconds = m.Histogram("livekit_forward_latency_ns")
	return s, true
}

// Sub returns the counts since an earlier reading of the same server. ok is
// false if the server was restarted in between, so that its counters restarted
// at 0.
func (s SFU) Sub(before SFU) (d SFU, ok bool) {
	d = s
	d.Joins = map[string]int64{}
	ok = true
	for _, c := range []struct{ now, then *int64 }{
		{&d.PacketsIn, &before.PacketsIn}, {&d.PacketsOut, &before.PacketsOut},
		{&d.BytesIn, &before.BytesIn}, {&d.BytesOut, &before.BytesOut},
		{&d.RetransmitsOut, &before.RetransmitsOut}, {&d.RetransmitBytesOut, &before.RetransmitBytesOut},
		{&d.NACKsIn, &before.NACKsIn}, {&d.NACKsOut, &before.NACKsOut},
		{&d.PLIsIn, &before.PLIsIn}, {&d.PLIsOut, &before.PLIsOut},
		{&d.FIRsIn, &before.FIRsIn}, {&d.FIRsOut, &before.FIRsOut},
		{&d.LostIn, &before.LostIn}, {&d.LostOut, &before.LostOut},
		{&d.OutOfOrderIn, &before.OutOfOrderIn}, {&d.OutOfOrderOut, &before.OutOfOrderOut},
	} {
		*c.now -= *c.then
		ok = ok && *c.now >= 0
	}
	if s.NodePackets >= 0 && before.NodePackets >= 0 {
		d.NodePackets, d.NodeDropped = s.NodePackets-before.NodePackets, s.NodeDropped-before.NodeDropped
	}
	for state, n := range s.Joins {
		d.Joins[state] = n - before.Joins[state]
		ok = ok && d.Joins[state] >= 0
	}
	ok = ok && s.Forwarded >= before.Forwarded
	if ok {
		d.Forwarded, d.ForwardNanoseconds = s.Forwarded-before.Forwarded, s.ForwardNanoseconds-before.ForwardNanoseconds
	}
	return d, ok
}
