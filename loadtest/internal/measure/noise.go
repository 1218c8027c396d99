package measure

import (
	"runtime"
	"time"
)

// Noise measures how much of the machine others use during a measurement: their
// load affects latencies and rates directly, and CPU times through caches and
// the hypervisor.
type Noise struct {
	machine Machine
	own     time.Duration
}

// StartNoise begins to watch.
func StartNoise() (Noise, error) {
	m, err := ReadMachine()
	if err != nil {
		return Noise{}, err
	}
	own, err := TreeCPU()
	return Noise{machine: m, own: own}, err
}

// Since returns the share of all processors' time that processes other than
// this one and its descendants have used since the start, and the share that
// the hypervisor gave to other machines: 0 to 1.
func (n Noise) Since() (others, stolen float64, err error) {
	now, err := StartNoise()
	if err != nil {
		return 0, 0, err
	}
	span := float64(now.machine.At.Sub(n.machine.At)) * float64(runtime.NumCPU())
	if span <= 0 {
		return 0, 0, nil
	}
	busy := now.machine.Busy - n.machine.Busy - (now.own - n.own)
	return max(0, float64(busy)/span), float64(now.machine.Stolen-n.machine.Stolen) / span, nil
}
