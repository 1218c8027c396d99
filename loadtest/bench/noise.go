package bench

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/openova-io/bp-relay/loadtest/measure"
)

// noise tells how much of the machine others used meanwhile: what others do
// disturbs even CPU times, through caches and the hypervisor.
type noise struct {
	machine measure.Machine
	own     time.Duration
	err     error
}

func newNoise() noise {
	var n noise
	n.machine, n.err = measure.ReadMachine()
	n.own = ownCPU()
	return n
}

// results are two rows without a target.
func (n noise) results() []measure.Result {
	now, err := measure.ReadMachine()
	if n.err != nil || err != nil {
		return nil
	}
	span := float64(now.At.Sub(n.machine.At)) * float64(runtime.NumCPU())
	others := max(0, now.Busy-n.machine.Busy-(ownCPU()-n.own))
	row := func(name string, d time.Duration, note string) measure.Result {
		r := measure.Result{Name: name, Value: measure.Number(float64(d) / span), Unit: "of the machine", Note: note}
		return r.Judge(measure.Untargeted, 0)
	}
	return []measure.Result{
		row("noise.others", others, "processors' time used by processes that are not part of the measurement"),
		row("noise.stolen", now.Stolen-n.machine.Stolen, "processors' time that the hypervisor gave to others"),
	}
}

// ownCPU is what this process and its ended children have used.
func ownCPU() time.Duration {
	var sum time.Duration
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if unix.Getrusage(who, &u) == nil {
			sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	return sum
}
