package result

import (
	"encoding/json"
	"time"
)

// Schema names the form of the document; schema.json describes it.
const Schema = "relay-loadtest/v3"

// The kinds of load.
const (
	KindMedia     = "media"
	KindAPI       = "api"
	KindTunnel    = "tunnel"
	KindRecording = "recording"
)

// Total is the name of the path that sums up all others.
const Total = "total"

// Report is the document of one run, or of several parts of one run merged.
type Report struct {
	Schema   string          `json:"schema"`
	Tool     Tool            `json:"tool"`
	Name     string          `json:"name"`
	Kind     string          `json:"kind"`
	Scenario json.RawMessage `json:"scenario"` // as it was run, defaults filled in, without secrets
	// Started is when the measured part began, after the warm-up; Seconds how
	// long it took.
	Started time.Time `json:"started"`
	Seconds float64   `json:"seconds"`
	// Parts are the workers whose parts were merged; one for a run of one process.
	Parts           []Part     `json:"parts"`
	Provenance      Provenance `json:"provenance"`
	Paths           []Path     `json:"paths"` // in the order of the scenario
	Total           Path       `json:"total"`
	Taxes           []Tax      `json:"taxes,omitempty"` // each TURN path against direct
	LossAttribution []Hop      `json:"loss_attribution,omitempty"`
	Processes       []Usage    `json:"processes"`
	Self            Self       `json:"self"`
	Timeline        []Point    `json:"timeline"`
	Thresholds      []Check    `json:"thresholds"`
	Verdict         Verdict    `json:"verdict"`
	// Void lists reasons, not visible in the numbers, for which the numbers do not
	// describe the scenario: publishers that did not rejoin.
	Void   []string    `json:"void,omitempty"`
	Errors []ErrorLine `json:"errors,omitempty"` // what went wrong, most frequent first
}

// Tool says which program made the report.
type Tool struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Go      string `json:"go"`
}

// Part is one worker.
type Part struct {
	Worker  int       `json:"worker"` // from 0
	Workers int       `json:"workers"`
	Host    string    `json:"host"`
	Cores   int       `json:"cores"`
	Kernel  string    `json:"kernel"`
	Started time.Time `json:"started"`
	Seconds float64   `json:"seconds"`
	// RcvbufErrors is that of this part's Self: workers of one host count the same
	// ones.
	RcvbufErrors int64 `json:"rcvbuf_errors,omitempty"`
}

// Provenance says how the numbers were obtained.
type Provenance struct {
	// Witnesses decrypt and check all they receive, HeaderOnly subscribers read
	// only the packets' headers.
	Witnesses  int `json:"witnesses"`
	HeaderOnly int `json:"header_only"`
	// Clock says how latencies were measured: "kernel receive time (SO_TIMESTAMPNS)
	// minus intended send time, same host".
	Clock string `json:"clock"`
	// ClockBoundMs bounds the offset of the clocks of several hosts; null if it is
	// unknown: one-way latencies are then not valid.
	ClockBoundMs *float64 `json:"clock_bound_ms"`
	// BWE is what subscribers offer for bandwidth estimation: "none" or "remb".
	BWE string `json:"bwe"`
	// Notes are further sentences.
	Notes []string `json:"notes,omitempty"`
}

// Path is what one path (direct, turn-udp, ...) or all of them carried.
type Path struct {
	Name string `json:"name"`
	// Publishers and Subscribers are the most that were connected at once.
	Publishers  int `json:"publishers"`
	Subscribers int `json:"subscribers"`
	// PlannedSubscribers are the most that the scenario wants at once; 0 if they
	// arrive at a rate. MissingSubscribers are those that the scenario wanted at the
	// end of the measured part and that had not joined.
	PlannedSubscribers int `json:"planned_subscribers,omitempty"`
	MissingSubscribers int `json:"missing_subscribers,omitempty"`

	Joins Joins `json:"joins"`
	Sent  Sent  `json:"sent"`
	// Received counts what subscribers received.
	Received Received `json:"received"`

	Latency *Hist `json:"latency,omitempty"` // one way: intended send to kernel receive
	Jitter  *Hist `json:"jitter,omitempty"`  // RFC 3550 6.4.1, per stream, sampled each second
	// Wrong counts participants whose selected candidate pair is not of this path.
	Wrong int `json:"wrong_path"`
	// Pairs counts the selected candidate pairs by their kind: "relay/udp ->
	// host/udp".
	Pairs map[string]int `json:"pairs,omitempty"`

	// Calls and Bytes are of the kinds api and tunnel.
	Calls *Calls `json:"calls,omitempty"`
	// Recordings are of the kind recording.
	Recordings *Recordings `json:"recordings,omitempty"`
}

// Joins are the attempts to join a room.
type Joins struct {
	Attempted int `json:"attempted"`
	Succeeded int `json:"succeeded"`
	Failed    int `json:"failed"`
	// Dropped were due by the arrival rate and not started, since too many were under
	// way (k6's dropped_iterations).
	Dropped    int `json:"dropped"`
	Left       int `json:"left"`       // as the scenario wanted
	Reconnects int `json:"reconnects"` // after a disconnection
	// Time counts from the moment when the join was due to a working media
	// transport; FirstPacket to the first media packet, FirstFrame to the first
	// whole key frame (subscribers only).
	Time        *Hist `json:"time,omitempty"`
	FirstPacket *Hist `json:"first_packet,omitempty"`
	FirstFrame  *Hist `json:"first_frame,omitempty"`
}

// Sent is what publishers handed to their sockets.
type Sent struct {
	Packets int64 `json:"packets"`
	// Bytes are RTP header, payload and SRTP tag: UDP payload without TURN's framing.
	Bytes        int64 `json:"bytes"`
	PayloadBytes int64 `json:"payload_bytes"` // media only
	// MeasuredPackets and MeasuredBytes are those of the measured part: rates and
	// costs are of them. The others are counted from the first to the last.
	MeasuredPackets int64 `json:"measured_packets"`
	MeasuredBytes   int64 `json:"measured_bytes"`
	Frames          int64 `json:"frames"`
	Retransmitted   int64 `json:"retransmitted"` // answers to NACKs
	NACKs           int64 `json:"nacks"`         // packets that the SFU's NACKs asked for
	PLIs            int64 `json:"plis"`
	Messages        int64 `json:"messages"` // data channel
	MessageBytes    int64 `json:"message_bytes"`
}

// Received is what subscribers received.
type Received struct {
	// Expected is what the SFU had to deliver to them: Packets + Lost.
	Expected     int64 `json:"expected"`
	Packets      int64 `json:"packets"` // without duplicates
	Bytes        int64 `json:"bytes"`
	PayloadBytes int64 `json:"payload_bytes"`
	// MeasuredPackets and MeasuredBytes are those of the measured part: rates and
	// costs are of them. The others are counted from the first to the last.
	MeasuredPackets int64 `json:"measured_packets"`
	MeasuredBytes   int64 `json:"measured_bytes"`
	Lost            int64 `json:"lost"`       // finally
	Duplicates      int64 `json:"duplicates"` // received again
	Reordered       int64 `json:"reordered"`  // received after a higher one, without a NACK
	Recovered       int64 `json:"recovered"`  // received after a NACK
	Padding         int64 `json:"padding"`    // packets without media
	NACKs           int64 `json:"nacks"`      // packets that subscribers' NACKs asked for
	PLIs            int64 `json:"plis"`
	Frames          int64 `json:"frames"` // complete ones
	FramesBroken    int64 `json:"frames_broken"`
	// Freezes are intervals between complete frames longer than max(3 average frame
	// durations, average + 150 ms) (W3C webrtc-stats, freezeCount).
	Freezes       int64   `json:"freezes"`
	FreezeSeconds float64 `json:"freeze_seconds"`
	Switches      int64   `json:"layer_switches"`
	Undecryptable int64   `json:"undecryptable"` // witnesses: failed authentication
	Malformed     int64   `json:"malformed"`     // not RTP, or witnesses: payload that is invalid for its codec
	Messages      int64   `json:"messages"`
	MessageBytes  int64   `json:"message_bytes"`
	// MessagesLost are data messages that were not received.
	MessagesLost int64 `json:"messages_lost"`
	// StreamSeconds is the sum of all streams' lifetimes: the bit rate per stream is
	// Bytes * 8 / StreamSeconds.
	StreamSeconds  float64 `json:"stream_seconds"`
	MessageLatency *Hist   `json:"message_latency,omitempty"`
}

// Hop is one line of the loss attribution of a path: packets finally lost on one
// hop. Each lost packet counts at one hop only.
type Hop struct {
	Path string `json:"path"`
	// Hop is one of the Hop constants.
	Hop     string `json:"hop"`
	Packets int64  `json:"packets"`
	// Source says how the number was obtained.
	Source string `json:"source"`
}

// The hops of a loss attribution.
const (
	HopOwnSend    = "own-send"         // the generator's send calls that failed
	HopPublisher  = "publisher-to-sfu" // never reached the SFU
	HopSubscriber = "sfu-to-subscriber"
	HopOwnReceive = "own-receive" // the generator's socket buffers were full (SO_RXQ_OVFL)
	HopResidual   = "residual"    // what no hop explains: 0, or the run has an error
)

// Calls are requests (api) or sessions (tunnel).
type Calls struct {
	Attempted    int64            `json:"attempted"`
	Succeeded    int64            `json:"succeeded"`
	Failed       int64            `json:"failed"`
	Dropped      int64            `json:"dropped"`         // due, not started
	Codes        map[string]int64 `json:"codes,omitempty"` // by gRPC or tunnel status
	Bytes        int64            `json:"bytes"`
	Instructions int64            `json:"instructions,omitempty"`
	Time         *Hist            `json:"time,omitempty"` // since it was due
	// Update is the latency of desktop updates: from the time at which one was due at
	// the synthetic guacd to its arrival at the client.
	Update *Hist `json:"update,omitempty"`
}

// Recordings are what was recorded while subscribers watched.
type Recordings struct {
	Started int `json:"started"`
	Sealed  int `json:"sealed"`
	Failed  int `json:"failed"`
	Gaps    int `json:"gaps"`
	// Packets are the media packets in the sealed tracks, Bytes their size.
	Packets int64 `json:"packets"`
	Bytes   int64 `json:"bytes"`
	Tracks  int   `json:"tracks"`
	Start   *Hist `json:"start,omitempty"` // StartRecording until it runs
	Stop    *Hist `json:"stop,omitempty"`  // StopRecording until it is sealed
}

// Tax is what a TURN path costs against direct in the same run with the same
// media.
type Tax struct {
	Path string `json:"path"`
	// TurnCPUSecondsPerGbit is CPU time per Gbit relayed by the TURN process; null if
	// it does not run on this host.
	TurnCPUSecondsPerGbit *float64 `json:"turn_cpu_s_per_gbit"`
	LatencyP50Ms          float64  `json:"latency_p50_ms"` // added
	LatencyP99Ms          float64  `json:"latency_p99_ms"`
	LossPoints            float64  `json:"loss_points"` // added share, 0 to 1
	JoinP50Ms             float64  `json:"join_p50_ms"`
}

// Usage is what a process on a measured host used during the measured part.
type Usage struct {
	Name string `json:"name"` // generator, sfu, turn, relay, seaweedfs
	// Host is where it runs; empty means the host of the report's only part.
	// Merge uses it to count a process once that two workers measured.
	Host       string  `json:"host,omitempty"`
	PID        int     `json:"pid"`
	CPUSeconds float64 `json:"cpu_s"`
	Cores      float64 `json:"cores"` // CPUSeconds / Seconds
	RSSBytes   int64   `json:"rss_bytes"`
	PeakBytes  int64   `json:"peak_bytes"`
	// SocketDrops are datagrams that the kernel dropped at its UDP sockets.
	SocketDrops int64 `json:"socket_drops"`
	// CPUSecondsPerGbit is relative to what the run delivered (generator, sfu) or
	// relayed (turn).
	CPUSecondsPerGbit *float64 `json:"cpu_s_per_gbit"`
}

// Self is the generator's own health: the reason for "inconclusive".
type Self struct {
	// Lag is how late packets were sent; ReadLag is how long the oldest packet of each
	// read waited in the kernel, which latency excludes.
	Lag     *Hist `json:"lag,omitempty"`
	ReadLag *Hist `json:"read_lag,omitempty"`
	// RunWaitMs is how long a runnable thread of the generator waited for a processor,
	// on average; RunDelay is waiting / (waiting + running). Both are from schedstat
	// in /proc. RunDelay is large for a process that runs often and briefly.
	RunWaitMs float64 `json:"run_wait_ms"`
	RunDelay  float64 `json:"run_delay"`
	// Steal is the share of time that the hypervisor gave to others, GC garbage
	// collection's share of the generator's CPU time: 0 to 1.
	Steal float64 `json:"steal"`
	GC    float64 `json:"gc"`
	// Busy is the busy share of the whole machine, by all processes.
	Busy           float64 `json:"busy"`
	SocketDrops    int64   `json:"socket_drops"`     // SO_RXQ_OVFL of the generator's sockets
	RcvbufErrors   int64   `json:"rcvbuf_errors"`    // /proc/net/snmp, this network namespace
	SendErrors     int64   `json:"send_errors"`      // send calls that failed
	QueueDrops     int64   `json:"queue_drops"`      // packets that a full queue of the generator refused
	PacketsPerRead float64 `json:"packets_per_read"` // received packets per system call
	PacketsPerSend float64 `json:"packets_per_send"`
	Reads          int64   `json:"reads"` // system calls
	Sends          int64   `json:"sends"`
}

// Point is one second of the run, for plots.
type Point struct {
	T     float64      `json:"t"` // seconds since Started; negative in the warm-up
	Paths []PointPath  `json:"paths"`
	CPU   []PointCPU   `json:"cpu,omitempty"`
	Hops  []PointValue `json:"hops,omitempty"`
}

// PointPath is a path in one second.
type PointPath struct {
	Name         string  `json:"name"`
	Participants int     `json:"participants"`
	SentBps      float64 `json:"sent_bps"`
	ReceivedBps  float64 `json:"received_bps"`
	Packets      int64   `json:"packets"`
	Lost         int64   `json:"lost"`
	LatencyP50Ms float64 `json:"latency_p50_ms"`
	LatencyP99Ms float64 `json:"latency_p99_ms"`
	Joins        int     `json:"joins"`
	Failed       int     `json:"failed"`
	Freezes      int64   `json:"freezes"`
	Calls        int64   `json:"calls,omitempty"`
}

// PointCPU is a process's use of processors in one second.
type PointCPU struct {
	Name  string  `json:"name"`
	Host  string  `json:"host,omitempty"` // as Usage.Host
	Cores float64 `json:"cores"`
}

// PointValue is a named number.
type PointValue struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
}

// Check is one threshold of the scenario and its outcome.
type Check struct {
	Expr   string   `json:"expr"`  // "turn-udp.latency_p99 < 150ms"
	Value  *float64 `json:"value"` // in Unit; null if it was not measured
	Unit   string   `json:"unit"`
	Passed bool     `json:"passed"`
	Note   string   `json:"note,omitempty"`
}

// The verdicts, and the exit codes that go with them.
const (
	Pass         = "pass"
	Fail         = "fail"         // a threshold was broken
	Inconclusive = "inconclusive" // the generator was the bottleneck
	Broken       = "error"        // the run itself failed: a wrong path, nobody joined
)

// Verdict is the outcome of a run.
type Verdict struct {
	Result  string   `json:"result"`
	Reasons []string `json:"reasons,omitempty"`
}

// ErrorLine is a kind of error and how often it happened.
type ErrorLine struct {
	Text  string `json:"text"`
	Count int64  `json:"count"`
}

// ExitCode returns 0 for pass, 99 for fail (as k6), 3 for inconclusive, otherwise 1.
func (v Verdict) ExitCode() int {
	switch v.Result {
	case Pass:
		return 0
	case Fail:
		return 99
	case Inconclusive:
		return 3
	}
	return 1
}
