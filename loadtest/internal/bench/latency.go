package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/openova-io/bp-relay/loadtest/internal/guacd"
	"github.com/openova-io/bp-relay/loadtest/internal/measure"
	"github.com/openova-io/bp-relay/services/connection/guac"
)

// The load of the case "latency": small updates, like those of a terminal or a
// cursor.
const (
	stampsPerSecond = 500
	stamps          = 2500
)

// tunnelLatency is the case "latency": how much later a small update arrives
// through our tunnel than through a bare relay. Both ends are in this process,
// so they share a clock and its disturbances.
func tunnelLatency(ctx context.Context, l *Lab) (rows []measure.Result, err error) {
	far, err := guacd.Listen(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, far.Close()) }()
	ours, bare, _, _ := l.brokers(ctx)
	subjects := []*broker{ours, bare}
	var p50, p99 [2]measure.Sample
	for _, b := range subjects {
		defer func() { err = errors.Join(err, b.stop()) }()
	}
	err = l.turns(ctx, len(subjects), l.rounds(4), func(ctx context.Context, _, i int) error {
		if err := subjects[i].ensure(ctx, far); err != nil {
			return err
		}
		took, err := subjects[i].ping(ctx, far, size(l, stamps))
		if err != nil {
			return err
		}
		p50[i] = append(p50[i], took.Quantile(0.5))
		p99[i] = append(p99[i], took.Quantile(0.99))
		return nil
	})
	if err != nil {
		return nil, err
	}
	added := func(name string, s [2]measure.Sample) measure.Result {
		diff := make(measure.Sample, len(s[0]))
		for i := range diff {
			diff[i] = s[0][i] - s[1][i]
		}
		r := measure.Of(name, "ms", diff)
		a, b := measure.Number(s[0].Median()), measure.Number(s[1].Median())
		r.Ours, r.Baseline, r.SideUnit = &a, &b, "ms"
		return r
	}
	return []measure.Result{
		added("tunnel.latency.p99", p99).Judge(measure.AtMost, 1),
		added("tunnel.latency.p50", p50).Judge(measure.Untargeted, 0),
	}, nil
}

// ping sends n small updates at a fixed rate and returns the latency of each
// from when it was written, in milliseconds.
func (b *broker) ping(ctx context.Context, far *guacd.Server, n int) (measure.Sample, error) {
	session, client, err := b.open(ctx, far)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	sent := make(chan error, 1)
	go func() {
		var buf []byte
		_, err := measure.Pace(ctx, n, time.Second/stampsPerSecond, func(int, time.Time) error {
			var err error
			if buf, err = guacd.Stamp(buf[:0], time.Since(start)); err != nil {
				return err
			}
			_, err = session.Write(buf)
			return err
		})
		sent <- err
	}()
	took := make(measure.Sample, 0, n)
	err = client.Deadline(time.Now().Add(time.Duration(n)*time.Second/stampsPerSecond + 30*time.Second))
	if err == nil {
		err = client.Instructions(func(in *guac.Instruction) bool {
			if at, ok := guacd.StampTime(in); ok {
				took = append(took, float64(time.Since(start)-at)/float64(time.Millisecond))
			}
			return len(took) < n
		})
	}
	if err = errors.Join(err, client.Close(), session.Close(), <-sent); err != nil {
		return nil, fmt.Errorf("%s: %w", b.name, err)
	}
	return took, nil
}
