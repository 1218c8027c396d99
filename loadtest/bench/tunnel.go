package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/openova-io/bp-relay/loadtest/child"
	"github.com/openova-io/bp-relay/loadtest/desktop"
	"github.com/openova-io/bp-relay/loadtest/guacd"
	"github.com/openova-io/bp-relay/loadtest/measure"
)

// broker is a subject between the synthetic guacd and the client.
type broker struct {
	name string
	// start runs it as a process of its own and says how a client gets in.
	start func(ctx context.Context, guacd string) (*child.Process, entry, error)
	// fresh: a new process for each round, since it keeps what it records.
	fresh bool
	// absent says why it cannot run here.
	absent error

	proc *child.Process
	in   entry
	// clean removes what start made.
	clean func() error
}

// entry is a URL of a WebSocket, or an address of a bare relay.
type entry struct{ ws, raw string }

func (e entry) dial(ctx context.Context) (*desktop.Client, error) {
	if e.raw != "" {
		return desktop.DialRaw(ctx, e.raw)
	}
	return desktop.Dial(ctx, e.ws)
}

// up starts the broker where it does not run.
func (b *broker) up(ctx context.Context, far *guacd.Server) (err error) {
	if b.proc != nil {
		return nil
	}
	if b.proc, b.in, err = b.start(ctx, far.Address()); err != nil {
		return err
	}
	// What is warm in production (JIT, allocator, page cache) is warm here.
	_, err = b.carry(ctx, far, 8<<20)
	return err
}

func (b *broker) down() error {
	if b.proc == nil {
		return nil
	}
	err := b.proc.Stop()
	b.proc = nil
	if b.clean != nil {
		err = errors.Join(err, b.clean())
	}
	return err
}

// open makes one session through the broker.
func (b *broker) open(ctx context.Context, far *guacd.Server) (*guacd.Session, *desktop.Client, error) {
	type near struct {
		c   *desktop.Client
		err error
	}
	dialled := make(chan near, 1)
	// guacd has to answer while the client still connects.
	go func() {
		c, err := b.in.dial(ctx)
		dialled <- near{c, err}
	}()
	actx, cancel := context.WithTimeoutCause(ctx, 15*time.Second, fmt.Errorf("%s did not connect to guacd", b.name))
	defer cancel()
	session, err := far.Accept(actx)
	n := <-dialled
	if err = errors.Join(err, n.err); err != nil {
		if session != nil {
			err = errors.Join(err, session.Close())
		}
		if n.c != nil {
			err = errors.Join(err, n.c.Close())
		}
		return nil, nil, fmt.Errorf("%s: %w", b.name, err)
	}
	return session, n.c, nil
}

// The load of the case "tunnel": a screen that changes 30 times a second.
const (
	framesPerSecond = 30
	frameBytes      = 4 << 20 / 3 // so that 30 are 40 MiB/s
	streamBytes     = 200 << 20
)

// carry sends about total bytes through one session at the pace of a moving
// screen and returns the broker's CPU time per GiB.
func (b *broker) carry(ctx context.Context, far *guacd.Server, total int) (float64, error) {
	frame, err := guacd.Frame(frameBytes)
	if err != nil {
		return 0, err
	}
	before, err := measure.CPU(b.proc.Pid())
	if err != nil {
		return 0, err
	}
	session, client, err := b.open(ctx, far)
	if err != nil {
		return 0, err
	}
	frames := total/len(frame) + 1
	sent := make(chan error, 1)
	go func() {
		_, err := measure.Pace(ctx, frames, time.Second/framesPerSecond, func(int, time.Time) error {
			_, err := session.Write(frame)
			return err
		})
		if err == nil {
			_, err = session.Write(guacd.Last())
		}
		sent <- err
	}()
	err = client.Deadline(time.Now().Add(2 * time.Minute))
	var got int64
	if err == nil {
		got, err = client.Until(guacd.Last())
	}
	after, cerr := measure.CPU(b.proc.Pid())
	err = errors.Join(err, cerr, client.Close(), session.Close(), <-sent)
	if want := int64(frames * len(frame)); err == nil && got < want {
		err = fmt.Errorf("%d of %d bytes arrived", got, want)
	}
	if err != nil {
		return 0, fmt.Errorf("%s: %w", b.name, err)
	}
	return (after - before).Seconds() / (float64(frames*len(frame)) / (1 << 30)), nil
}

// brokers are ours and what it is compared to.
func (l *Lab) brokers(ctx context.Context) (ours, bare, guac, lite *broker) {
	ours = &broker{name: "tunnel", fresh: true}
	ours.start = func(ctx context.Context, address string) (*child.Process, entry, error) {
		dir, err := l.scratch("tunnel")
		if err != nil {
			return nil, entry{}, err
		}
		ours.clean = func() error { return os.RemoveAll(dir) }
		var at string
		p, err := child.Again(ctx, "tunnel", tunnelConfig{Guacd: address, Dir: dir}, &at)
		return p, entry{ws: "ws://" + at + "/"}, err
	}
	bare = &broker{name: "bare relay", start: func(ctx context.Context, address string) (*child.Process, entry, error) {
		var at string
		p, err := child.Again(ctx, "relay", address, &at)
		return p, entry{raw: at}, err
	}}
	guac, lite = l.guacBroker(ctx), l.liteBroker(ctx)
	return ours, bare, guac, lite
}

// tunnelCPU is the case "tunnel".
func tunnelCPU(ctx context.Context, l *Lab) (rows []measure.Result, err error) {
	far, err := guacd.Listen(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, far.Close()) }()
	ours, bare, guac, lite := l.brokers(ctx)
	var subjects []*broker
	for _, b := range []*broker{ours, bare, guac, lite} {
		if b.absent == nil {
			subjects = append(subjects, b)
		}
		defer func() { err = errors.Join(err, b.down()) }()
	}
	used := map[*broker]measure.Sample{}
	err = measure.Turns(ctx, len(subjects), l.rounds(5), func(ctx context.Context, _, i int) error {
		b := subjects[i]
		if err := b.up(ctx, far); err != nil {
			return err
		}
		perGiB, err := b.carry(ctx, far, size(l, streamBytes))
		if err != nil {
			return err
		}
		used[b] = append(used[b], perGiB)
		if b.fresh {
			return b.down()
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	row := func(name string, b *broker) measure.Result {
		if b.absent != nil {
			return measure.Absent(name, "ratio", b.absent.Error())
		}
		return measure.Compare(name, "CPU-s/GiB", used[ours], used[b])
	}
	return []measure.Result{
		row("tunnel.cpu.guac", guac).Judge(measure.AtMost, 0.2),
		row("tunnel.cpu.lite", lite).Judge(measure.AtMost, 0.2),
		row("tunnel.cpu.relay", bare).Judge(measure.Untargeted, 0),
	}, nil
}
