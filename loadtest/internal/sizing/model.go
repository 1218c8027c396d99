package sizing

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/openova-io/bp-relay/loadtest/internal/measure"
	"github.com/openova-io/bp-relay/loadtest/internal/plan"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

// Schema is the version of the JSON file.
const Schema = "relay-loadtest-sizing/v1"

// ErrData is returned for a JSON file that [Data.Write] did not write.
var ErrData = errors.New("sizing: data")

// maxData bounds a JSON file that is read, in bytes; a full sweep has about 40 kB.
const maxData = 4 << 20

// Data is a whole sweep.
type Data struct {
	Schema   string      `json:"schema"`
	Tool     result.Tool `json:"tool"`
	Measured time.Time   `json:"measured"` // when it began
	// Seconds is the duration of the sweep, HoldSeconds that of each run's
	// measured part.
	Seconds     float64 `json:"seconds"`
	HoldSeconds float64 `json:"hold_s"`
	// Quick is set for the short sweep, which is too rough for decisions.
	Quick   bool    `json:"quick"`
	Machine Machine `json:"machine"`
	Points  []Point `json:"points"` // in the order in which they were run
	// Stops are the series that ended early, and why.
	Stops []Stop `json:"stops,omitempty"`
	// Cores is what one core of each process carries, see [Core].
	Cores []Core `json:"cores"`
	Joins *Join  `json:"joins,omitempty"`
	Plans []Plan `json:"plans,omitempty"`
	// Cost is the cost from which the plans were computed.
	Cost *plan.Cost `json:"cost,omitempty"`
	// NoPlans is the reason why there are no plans.
	NoPlans string `json:"no_plans,omitempty"`
}

// Machine is the machine that ran the generator and the system under test.
type Machine struct {
	CPU    string `json:"cpu"` // model name, "" if unknown
	Cores  int    `json:"cores"`
	Memory int64  `json:"memory"` // bytes
	Kernel string `json:"kernel"`
	Arch   string `json:"arch"`
}

// Point is one run. Rates are averages over the measured part without its first
// second; a figure that was not measured is null.
type Point struct {
	Series string `json:"series"` // one of the Series constants
	// Publishers and Subscribers are the numbers in all rooms together.
	Publishers  int `json:"publishers"`
	Subscribers int `json:"subscribers"`
	// Seconds is the length of the measured part, RateSeconds that of the part
	// that the rates are averages of.
	Seconds     float64 `json:"seconds"`
	RateSeconds float64 `json:"rate_s"`
	// Delivered is the media that subscribers received, Sent what publishers
	// sent, Relayed what went through TURN.
	Delivered Flow `json:"delivered"`
	Sent      Flow `json:"sent"`
	Relayed   Flow `json:"relayed"`

	Generator *Use `json:"generator,omitempty"`
	SFU       *Use `json:"sfu,omitempty"`
	TURN      *Use `json:"turn,omitempty"`
	// Relay is the whole relay process during a recording, including the API, the
	// evidence log and the web part. SeaweedFS stores the recording.
	Relay     *Use `json:"relay,omitempty"`
	SeaweedFS *Use `json:"seaweedfs,omitempty"`

	// Busy is the share of the whole machine that was busy, 0 to 1.
	Busy measure.Number `json:"busy"`
	// OtherCores is the use of everything but the processes of the run: the
	// kernel's own threads, and other processes.
	OtherCores   measure.Number `json:"other_cores"`
	LatencyP50Ms measure.Number `json:"latency_p50_ms"`
	LatencyP99Ms measure.Number `json:"latency_p99_ms"`
	Lost         int64          `json:"lost"` // packets
	Loss         measure.Number `json:"loss"` // share of what was expected, 0 to 1
	// Joins are those during RateSeconds.
	Joins  int `json:"joins"`
	Tracks int `json:"recorded_tracks,omitempty"`
	// Verdict is one of the report's; Reasons are its reasons, or the error of a
	// run without a report.
	Verdict string   `json:"verdict"`
	Reasons []string `json:"reasons,omitempty"`
}

// Passed reports whether the run kept its thresholds.
func (p *Point) Passed() bool { return p.Verdict == result.Pass }

// Size is the number that grows in the point's series.
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
	// CPUSecondsPerGbit and MicrosPerPacket (CPU time) are relative to what the
	// process carried: for the generator what it sent and received, for the SFU
	// what it delivered (or received, if there are no subscribers), for TURN what
	// it relayed, for relay and SeaweedFS what was recorded.
	CPUSecondsPerGbit measure.Number `json:"cpu_s_per_gbit"`
	MicrosPerPacket   measure.Number `json:"cpu_us_per_packet"`
	// Bytes is the peak memory: the generator's since the run began, that of
	// others since they were started.
	Bytes int64 `json:"peak_bytes"`
}

// Stop is the size at which a series ended early.
type Stop struct {
	Series string `json:"series"`
	Size   int    `json:"size"`
	Why    string `json:"why"`
}

// Read reads a JSON file. It returns ErrData if [Data.Write] did not write it.
func Read(r io.Reader) (*Data, error) {
	dec := json.NewDecoder(io.LimitReader(r, maxData))
	dec.DisallowUnknownFields()
	var d Data
	if err := dec.Decode(&d); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrData, err)
	}
	if d.Schema != Schema {
		return nil, fmt.Errorf("%w: schema %q: want %q; measure again with relay-loadtest sizing", ErrData, d.Schema, Schema)
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

// of returns the points of a series, in order.
func (d *Data) of(series string) []Point {
	var out []Point
	for _, p := range d.Points {
		if p.Series == series {
			out = append(out, p)
		}
	}
	return out
}
