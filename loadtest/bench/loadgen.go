package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/openova-io/bp-relay/loadtest/child"
	"github.com/openova-io/bp-relay/loadtest/measure"
)

// The load of the case "loadgen".
const (
	loadgenSubscribers = 20
	loadgenPublishers  = 6
	loadgenJoins       = 30
	// loadgenFor is two intervals of the SFU's counters, and once through the
	// clip: each round has the same pictures.
	loadgenFor = 2 * statsInterval
	// loadgenSettle is from the last join until the counters of every track
	// have come in once.
	loadgenSettle = statsInterval + 500*time.Millisecond
)

// loadgen is the case "loadgen": the CPU time of load generators at a fixed
// load.
func loadgen(ctx context.Context, l *Lab) (rows []measure.Result, err error) {
	lk, err := l.metered(ctx)
	if err != nil {
		return nil, err
	}
	var subscribe, publish, join measure.Sample
	var perReceived, perSent, perSecond measure.Sample
	err = l.turns(ctx, 3, l.rounds(2), func(ctx context.Context, round, i int) error {
		at, err := lk.room(ctx, fmt.Sprintf("loadgen-%d-%d", i, round))
		if err != nil {
			return err
		}
		switch i {
		case 0:
			u, err := l.lkSubscribers(ctx, lk, at, loadgenSubscribers)
			if err == nil {
				subscribe, perReceived = append(subscribe, u.perGbit()), append(perReceived, u.perPacket())
				perSecond = append(perSecond, float64(u.Packets)/u.took.Seconds())
			}
			return err
		case 1:
			u, err := sdkPublishers(ctx, at, loadgenPublishers)
			if err == nil {
				publish, perSent = append(publish, u.perGbit()), append(perSent, u.perPacket())
			}
			return err
		default:
			ms, err := sdkJoins(ctx, at, loadgenJoins)
			join = append(join, ms)
			return err
		}
	})
	if err != nil {
		return nil, err
	}
	rows = []measure.Result{
		measure.Of("loadgen.subscribe.lk", "CPU-s/Gbit", subscribe).Judge(measure.Untargeted, 0),
		measure.Of("loadgen.publish.sdk", "CPU-s/Gbit", publish).Judge(measure.Untargeted, 0),
		measure.Of("loadgen.join.sdk", "CPU-ms/join", join).Judge(measure.Untargeted, 0),
	}
	rows[0].Note = fmt.Sprintf("%d subscribers of livekit-cli, %.0f packets/s in all, %.1f us of CPU time for each; bytes with RTP headers", loadgenSubscribers, perSecond.Median(), perReceived.Median())
	rows[1].Note = fmt.Sprintf("%d publishers of the Go SDK, %.1f us of CPU time for each packet; bytes without RTP headers", loadgenPublishers, perSent.Median())
	rows[2].Note = fmt.Sprintf("%d subscribers of the Go SDK one after the other, each until the first packets of picture and sound, and out again", loadgenJoins)
	return rows, nil
}

// usage is what a process did in a while, and the CPU time it took.
type usage struct {
	traffic
	cpu, took time.Duration
}

func (u usage) perGbit() float64 { return u.cpu.Seconds() / u.gbit() }

// perPacket is in microseconds.
func (u usage) perPacket() float64 {
	return float64(u.cpu) / float64(time.Microsecond) / float64(u.Packets)
}

// watch takes a process's CPU time over d, and what count says before and
// after.
func watch(ctx context.Context, pid int, d time.Duration, count func(context.Context) (traffic, error)) (usage, error) {
	var cpu [2]time.Duration
	var done [2]traffic
	begin := time.Now()
	for i := range 2 {
		if i == 1 {
			if err := sleep(ctx, time.Until(begin.Add(d))); err != nil {
				return usage{}, err
			}
		}
		var err error
		if done[i], err = count(ctx); err != nil {
			return usage{}, err
		}
		if cpu[i], err = measure.CPU(pid); err != nil {
			return usage{}, err
		}
	}
	u := usage{traffic: done[1].since(done[0]), cpu: cpu[1] - cpu[0], took: time.Since(begin)}
	if u.Packets <= 0 || u.Bytes <= 0 {
		return usage{}, errors.New("no media flowed")
	}
	return u, nil
}

// sdkPublishers measures participants of the Go SDK that publish.
func sdkPublishers(ctx context.Context, at sfu, n int) (u usage, err error) {
	p, err := child.Again(ctx, "sdk-publish", publishConfig{SFU: at, Count: n}, nil)
	if err != nil {
		return usage{}, err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	if err := sleep(ctx, recordSettle); err != nil {
		return usage{}, err
	}
	return watch(ctx, p.Pid(), loadgenFor, func(ctx context.Context) (t traffic, err error) {
		err = p.Call(ctx, nil, &t)
		return t, err
	})
}

// sdkJoins measures n joins of the Go SDK, and returns the CPU time of one in
// milliseconds.
func sdkJoins(ctx context.Context, at sfu, n int) (ms float64, err error) {
	source, err := child.Again(ctx, "publish", publishConfig{SFU: at, Count: 1}, nil)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, source.Stop()) }()
	p, err := child.Again(ctx, "sdk-join", sdkJoinConfig{SFU: at, Tracks: 2}, nil)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	var got joined
	if err := p.Call(ctx, 2, &got); err != nil { // warm
		return 0, err
	}
	before, err := measure.CPU(p.Pid())
	if err != nil {
		return 0, err
	}
	if err := p.Call(ctx, n, &got); err != nil {
		return 0, err
	}
	after, err := measure.CPU(p.Pid())
	if err == nil && got.Count != n {
		err = fmt.Errorf("%d of %d joined", got.Count, n)
	}
	return (after - before).Seconds() * 1000 / float64(n), err
}
