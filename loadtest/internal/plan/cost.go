package plan

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// ErrCost is returned for a cost that cannot be used, and for reports that do not
// yield one.
var ErrCost = errors.New("plan: cost")

// Cost is what participants cost the generator, and what the run cost the
// servers, on one kind of machine. It is stored as a JSON file.
type Cost struct {
	// Measured is when the last of Runs started, Machine where they ran, How the
	// method by which the figures were obtained.
	Measured time.Time `json:"measured"`
	Machine  Host      `json:"machine"`
	Runs     []string  `json:"runs"`
	How      string    `json:"how"`

	Publisher  Rate `json:"publisher"`   // sent packets
	HeaderOnly Rate `json:"header_only"` // packets of subscribers that read headers
	Witness    Rate `json:"witness"`     // packets of subscribers that decrypt and check
	// JoinCPUSeconds is the CPU time of one join, IdleCores the use of a worker
	// without participants.
	JoinCPUSeconds float64 `json:"join_cpu_s"`
	IdleCores      float64 `json:"idle_cores"`
	// BytesPerParticipant is the memory of a participant, BytesFixed that of a
	// worker without any.
	BytesPerParticipant float64 `json:"bytes_per_participant"`
	BytesFixed          float64 `json:"bytes_fixed"`
	// SocketsPerParticipant is the number of file descriptors of a participant.
	SocketsPerParticipant float64 `json:"sockets_per_participant"`

	SFU  *Server `json:"sfu,omitempty"`
	TURN *Server `json:"turn,omitempty"`

	// Assumed names the figures that the runs do not determine, and the values
	// used instead.
	Assumed []string `json:"assumed,omitempty"`
}

// Host is the machine on which a cost was measured.
type Host struct {
	Name   string `json:"name"`
	Cores  int    `json:"cores"`
	Kernel string `json:"kernel"`
}

// Rate is CPU time per packet and per bit, two views of one measurement: they
// agree for the measured media. Bits are RTP header, payload and SRTP tag.
type Rate struct {
	CPUSecondsPerMpacket float64 `json:"cpu_s_per_mpacket"`
	CPUSecondsPerGbit    float64 `json:"cpu_s_per_gbit"`
}

// cores returns the use of packets and bits per second, by the view that gives
// more: other media has packets of other sizes than the measured media.
func (r Rate) cores(packets, bits float64) float64 {
	return max(packets/1e6*r.CPUSecondsPerMpacket, bits/1e9*r.CPUSecondsPerGbit)
}

// Server is what a server used while the generator ran.
type Server struct {
	// CPUSecondsPerGbit is the median of the runs, Lowest to Highest their range.
	CPUSecondsPerGbit float64 `json:"cpu_s_per_gbit"`
	Lowest            float64 `json:"lowest"`
	Highest           float64 `json:"highest"`
	// Gbit (per second) and Participants are the highest of any run: higher loads
	// were not measured.
	Gbit         float64 `json:"gbit_per_s"`
	Participants int     `json:"participants"`
}

// Read reads a cost file. It returns ErrCost if the file is invalid.
func Read(r io.Reader) (Cost, error) {
	var c Cost
	dec := json.NewDecoder(io.LimitReader(r, 1<<20))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return Cost{}, fmt.Errorf("%w: %w", ErrCost, err)
	}
	return c, c.Check()
}

// Write writes a cost file.
func (c Cost) Write(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(c); err != nil {
		return fmt.Errorf("write cost: %w", err)
	}
	return nil
}

// Check returns ErrCost if the cost cannot be used.
func (c Cost) Check() error {
	for _, f := range []struct {
		name string
		v    float64
		zero bool // may be zero
	}{
		{"publisher.cpu_s_per_mpacket", c.Publisher.CPUSecondsPerMpacket, true},
		{"publisher.cpu_s_per_gbit", c.Publisher.CPUSecondsPerGbit, true},
		{"header_only.cpu_s_per_mpacket", c.HeaderOnly.CPUSecondsPerMpacket, true},
		{"header_only.cpu_s_per_gbit", c.HeaderOnly.CPUSecondsPerGbit, true},
		{"witness.cpu_s_per_mpacket", c.Witness.CPUSecondsPerMpacket, true},
		{"witness.cpu_s_per_gbit", c.Witness.CPUSecondsPerGbit, true},
		{"join_cpu_s", c.JoinCPUSeconds, true},
		{"idle_cores", c.IdleCores, true},
		{"bytes_fixed", c.BytesFixed, true},
		{"bytes_per_participant", c.BytesPerParticipant, false},
		{"sockets_per_participant", c.SocketsPerParticipant, false},
	} {
		if f.v < 0 || f.v > 1e15 || f.v == 0 && !f.zero {
			return fmt.Errorf("%w: %s is %v", ErrCost, f.name, f.v)
		}
	}
	if c.Publisher.CPUSecondsPerMpacket+c.HeaderOnly.CPUSecondsPerMpacket+c.Witness.CPUSecondsPerMpacket == 0 {
		return fmt.Errorf("%w: every packet costs 0", ErrCost)
	}
	return nil
}
