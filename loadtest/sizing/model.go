package sizing

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/openova-io/bp-relay/loadtest/measure"
	"github.com/openova-io/bp-relay/loadtest/plan"
	"github.com/openova-io/bp-relay/loadtest/report"
)

// Schema names the form of the JSON file.
const Schema = "relay-loadtest-sizing/v1"

// ErrData: a JSON file that is not what [Data.Write] writes.
var ErrData = errors.New("sizing: data")

// maxData bounds a JSON file that is read, in bytes; a full sweep has about 40 kB.
const maxData = 4 << 20

// Data is a whole sweep.
type Data struct {
	Schema   string      `json:"schema"`
	Tool     report.Tool `json:"tool"`
	Measured time.Time   `json:"measured"` // when it began
	// Seconds is how long all of it took, HoldSeconds the measured part of each run.
	Seconds     float64 `json:"seconds"`
	HoldSeconds float64 `json:"hold_s"`
	// Quick says that it was the short sweep, for a look, not for decisions.
	Quick   bool    `json:"quick"`
	Machine Machine `json:"machine"`
	Points  []Point `json:"points"` // in the order in which they were run
	// Stops say where a series was not raised further, and why.
	Stops []Stop `json:"stops,omitempty"`
	// Cores are what one core of each carries, see [Core].
	Cores []Core `json:"cores"`
	Joins *Join  `json:"joins,omitempty"`
	Plans []Plan `json:"plans,omitempty"`
	// Cost is what the plans were reckoned from.
	Cost *plan.Cost `json:"cost,omitempty"`
	// NoPlans says why there are none.
	NoPlans string `json:"no_plans,omitempty"`
}

// Machine is what everything ran on: generator and installation together.
type Machine struct {
	CPU    string `json:"cpu"` // as it calls itself, "" where it does not
	Cores  int    `json:"cores"`
	Memory int64  `json:"memory"` // bytes
	Kernel string `json:"kernel"`
	Arch   string `json:"arch"`
}

// Point is one run. Rates are averages over the measured part without its first
// second; a figure that was not measured is null.
type Point struct {
	Series string `json:"series"` // one of the Series constants
	// Publishers and Subscribers are those of all rooms together.
	Publishers  int `json:"publishers"`
	Subscribers int `json:"subscribers"`
	// Seconds is how long it was measured; RateSeconds those of them that the
	// rates are of.
	Seconds     float64 `json:"seconds"`
	RateSeconds float64 `json:"rate_s"`
	// Delivered is what subscribers got, Sent what publishers sent, Relayed what
	// went through TURN.
	Delivered Flow `json:"delivered"`
	Sent      Flow `json:"sent"`
	Relayed   Flow `json:"relayed"`

	Generator *Use `json:"generator,omitempty"`
	SFU       *Use `json:"sfu,omitempty"`
	TURN      *Use `json:"turn,omitempty"`
	// Relay is the whole relay process while it records: API, evidence log and
	// web part are in it. SeaweedFS stores what it records.
	Relay     *Use `json:"relay,omitempty"`
	SeaweedFS *Use `json:"seaweedfs,omitempty"`

	// Busy is the share of the whole machine that was busy, 0 to 1.
	Busy measure.Number `json:"busy"`
	// OtherCores are what ran beside the processes of the run: the kernel's own
	// threads, and whatever else the machine does.
	OtherCores   measure.Number `json:"other_cores"`
	LatencyP50Ms measure.Number `json:"latency_p50_ms"`
	LatencyP99Ms measure.Number `json:"latency_p99_ms"`
	Lost         int64          `json:"lost"` // packets, for good
	Loss         measure.Number `json:"loss"` // share of what was expected, 0 to 1
	// Joins are those of the seconds that the rates are of.
	Joins  int `json:"joins"`
	Tracks int `json:"recorded_tracks,omitempty"`
	// Verdict is one of the report's; Reasons are its reasons, or the error that
	// kept the run from being one.
	Verdict string   `json:"verdict"`
	Reasons []string `json:"reasons,omitempty"`
}

// Passed says that the run kept its thresholds.
func (p *Point) Passed() bool { return p.Verdict == report.Pass }

// Size is what grows in the point's series.
func (p *Point) Size() int {
	if p.Series == SeriesPublishers || p.Series == SeriesRecording {
		return p.Publishers
	}
	return p.Subscribers
}

// Flow is media per second. Bits are RTP header, payload and SRTP tag.
type Flow struct {
	Packets measure.Number `json:"packets_per_s"`
	Gbit    measure.Number `json:"gbit_per_s"`
}

// Use is what a process used.
type Use struct {
	Cores measure.Number `json:"cores"`
	// CPUSecondsPerGbit and MicrosPerPacket (CPU time) are against what the
	// process carries: the generator what it sent and received, the SFU what it
	// delivered (or received, where nobody subscribes), TURN what it relayed,
	// relay and SeaweedFS what was recorded.
	CPUSecondsPerGbit measure.Number `json:"cpu_s_per_gbit"`
	MicrosPerPacket   measure.Number `json:"cpu_us_per_packet"`
	// Bytes are the most memory it held; of the generator since the run began,
	// of others since they were started.
	Bytes int64 `json:"peak_bytes"`
}

// Stop is where a series ended before its time.
type Stop struct {
	Series string `json:"series"`
	Size   int    `json:"size"`
	Why    string `json:"why"`
}

// Read reads a JSON file; what [Data.Write] did not write is ErrData.
func Read(r io.Reader) (*Data, error) {
	dec := json.NewDecoder(io.LimitReader(r, maxData))
	dec.DisallowUnknownFields()
	var d Data
	if err := dec.Decode(&d); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrData, err)
	}
	if d.Schema != Schema {
		return nil, fmt.Errorf("%w: its schema is %q, not %q: measure again with relay-loadtest sizing", ErrData, d.Schema, Schema)
	}
	return &d, nil
}

// Write writes the JSON file.
func (d *Data) Write(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(d); err != nil {
		return fmt.Errorf("sizing: write data: %w", err)
	}
	return nil
}

// of are the points of a series, in order.
func (d *Data) of(series string) []Point {
	var out []Point
	for _, p := range d.Points {
		if p.Series == series {
			out = append(out, p)
		}
	}
	return out
}
