package probe

// Traffic counts the traffic of one side: Rx is what STUNner received, Tx what
// it sent.
type Traffic struct {
	RxPackets, TxPackets int64
	RxBytes, TxBytes     int64
}

func (t Traffic) sub(b Traffic) Traffic {
	return Traffic{t.RxPackets - b.RxPackets, t.TxPackets - b.TxPackets, t.RxBytes - b.RxBytes, t.TxBytes - b.TxBytes}
}

func (t Traffic) negative() bool {
	return t.RxPackets < 0 || t.TxPackets < 0 || t.RxBytes < 0 || t.TxBytes < 0
}

// TURN holds the counters of STUNner's data plane (v1.2.1, internal/telemetry).
type TURN struct {
	// Allocations is the current number; a difference has that of the later
	// reading.
	Allocations int
	// Listeners is the clients' side by name, with TURN's framing. A packet is a
	// datagram on UDP, and one read or write on TCP and TLS.
	Listeners map[string]Traffic
	// Clusters is the SFU's side by name; each datagram counts once.
	Clusters map[string]Traffic
	// Connections counts accepted connections by listener; it has no meaning for
	// UDP.
	Connections map[string]int64
}

// TURN reads STUNner's counters. ok is false if the metrics are not STUNner's.
func (m Metrics) TURN() (t TURN, ok bool) {
	if !m.Has("stunner_allocations_active") {
		return TURN{}, false
	}
	t = TURN{
		Allocations: int(m.Sum("stunner_allocations_active")),
		Listeners:   m.traffic("stunner_listener"), Clusters: m.traffic("stunner_cluster"),
		Connections: map[string]int64{},
	}
	for name, n := range m.By("name", "stunner_listener_connections_total") {
		t.Connections[name] = int64(n)
	}
	return t, true
}

// traffic reads the counters of listeners or clusters by their names.
func (m Metrics) traffic(prefix string) map[string]Traffic {
	out := map[string]Traffic{}
	for name := range m.By("name", prefix+"_packets_total") {
		n := func(what, direction string) int64 {
			return m.count(prefix+what, "name", name, "direction", direction)
		}
		out[name] = Traffic{
			RxPackets: n("_packets_total", "rx"), TxPackets: n("_packets_total", "tx"),
			RxBytes: n("_bytes_total", "rx"), TxBytes: n("_bytes_total", "tx"),
		}
	}
	return out
}

// Relayed adds up the clusters: the traffic to and from the SFU.
func (t TURN) Relayed() (sum Traffic) {
	for _, c := range t.Clusters {
		sum.RxPackets += c.RxPackets
		sum.TxPackets += c.TxPackets
		sum.RxBytes += c.RxBytes
		sum.TxBytes += c.TxBytes
	}
	return sum
}

// Sub returns the counts since an earlier reading of the same server. ok is
// false if the server was restarted in between.
func (t TURN) Sub(before TURN) (d TURN, ok bool) {
	d = TURN{Allocations: t.Allocations, Listeners: map[string]Traffic{}, Clusters: map[string]Traffic{}, Connections: map[string]int64{}}
	ok = true
	for name, n := range t.Listeners {
		d.Listeners[name] = n.sub(before.Listeners[name])
		ok = ok && !d.Listeners[name].negative()
	}
	for name, n := range t.Clusters {
		d.Clusters[name] = n.sub(before.Clusters[name])
		ok = ok && !d.Clusters[name].negative()
	}
	for name, n := range t.Connections {
		d.Connections[name] = n - before.Connections[name]
		ok = ok && d.Connections[name] >= 0
	}
	return d, ok
}
