package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/openova-io/bp-relay/loadtest/internal/child"
	"github.com/openova-io/bp-relay/loadtest/internal/desktop"
	"github.com/openova-io/bp-relay/loadtest/internal/guacd"
	"github.com/openova-io/bp-relay/loadtest/internal/measure"
)

// broker is a subject, between the synthetic guacd and the client.
type broker struct {
	name string
	// start runs it in a separate process and returns the entry for clients.
	start func(ctx context.Context, guacd string) (*child.Child, entry, error)
	// fresh: a new process for each round, because it keeps what it records.
	fresh bool
	// absent is the reason why it cannot run on this machine.
	absent error

	proc *child.Child
	in   entry
	// clean removes what start created.
	clean func() error
}

// entry is the URL of a WebSocket, or the address of a bare relay.
type entry struct{ ws, raw string }

func (e entry) dial(ctx context.Context) (*desktop.Client, error) {
	if e.raw != "" {
		return desktop.DialRaw(ctx, e.raw)
	}
	return desktop.Dial(ctx, e.ws)
}

// ensure starts the broker if it does not run.
func (b *broker) ensure(ctx context.Context, far *guacd.Server) (err error) {
	if b.proc != nil {
		return nil
	}
	if b.proc, b.in, err = b.start(ctx, far.Address()); err != nil {
		return err
	}
	// Warm up what is warm in production: JIT, allocator, page cache.
	frame, err := guacd.Frame(1 << 18)
	if err != nil {
		return err
	}
	_, err = b.carry(ctx, far, load{frames: [][]byte{frame}, total: 8 << 20})
	return err
}

func (b *broker) stop() error {
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

// open opens a session through the broker.
func (b *broker) open(ctx context.Context, far *guacd.Server) (*guacd.Session, *desktop.Client, error) {
	type near struct {
		c   *desktop.Client
		err error
	}
	dialled := make(chan near, 1)
	// guacd must answer while the client connects.
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

// load is the content of a session: a screen that changes 30 times a second.
type load struct {
	// frames are sent one after the other, repeatedly.
	frames [][]byte
	total  int
}

const framesPerSecond = 30

// images returns full-screen images at 40 MiB/s, in the largest instructions
// that guacd sends: the cheapest load for a broker that parses each
// instruction.
func (l *Lab) images() (load, error) {
	frame, err := guacd.Frame(40 << 20 / framesPerSecond)
	return load{frames: [][]byte{frame}, total: size(l, 200<<20)}, err
}

// shell returns a busy terminal at 24 MiB/s, recorded from the real guacd.
func (l *Lab) shell(ctx context.Context) (load, error) {
	stream, err := l.terminal(ctx)
	if err != nil {
		return load{}, err
	}
	s := load{total: size(l, 120<<20)}
	for len(stream) > 0 {
		n, err := guacd.Cut(stream, 24<<20/framesPerSecond)
		if err != nil {
			return load{}, err
		}
		s.frames, stream = append(s.frames, stream[:n]), stream[n:]
	}
	return s, nil
}

// carry sends a load through one session and returns the broker's CPU time per
// GiB.
func (b *broker) carry(ctx context.Context, far *guacd.Server, l load) (float64, error) {
	session, client, err := b.open(ctx, far)
	if err != nil {
		return 0, err
	}
	// Measure from here: the cost of opening a session does not depend on bytes.
	before, err := measure.CPU(b.proc.Pid())
	if err != nil {
		return 0, errors.Join(err, client.Close(), session.Close())
	}
	n, want := l.count()
	sent := make(chan error, 1)
	go func() {
		_, err := measure.Pace(ctx, n, time.Second/framesPerSecond, func(i int, _ time.Time) error {
			_, err := session.Write(l.frames[i%len(l.frames)])
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
	if err == nil && got < want {
		err = fmt.Errorf("%d of %d bytes arrived", got, want)
	}
	if err != nil {
		return 0, fmt.Errorf("%s: %w", b.name, err)
	}
	return (after - before).Seconds() / (float64(want) / (1 << 30)), nil
}

// count returns how many frames make up the total, and their bytes.
func (l load) count() (n int, bytes int64) {
	for ; bytes < int64(l.total); n++ {
		bytes += int64(len(l.frames[n%len(l.frames)]))
	}
	return n, bytes
}

// brokers returns our tunnel and the baselines.
func (l *Lab) brokers(ctx context.Context) (ours, bare, guac, lite *broker) {
	ours = &broker{name: "tunnel", fresh: true}
	ours.start = func(ctx context.Context, address string) (*child.Child, entry, error) {
		dir, err := l.scratch("tunnel")
		if err != nil {
			return nil, entry{}, err
		}
		ours.clean = func() error { return os.RemoveAll(dir) }
		var at string
		p, err := child.Again(ctx, "tunnel", tunnelConfig{Guacd: address, Dir: dir}, &at)
		return p, entry{ws: "ws://" + at + "/"}, err
	}
	bare = &broker{name: "bare relay", start: func(ctx context.Context, address string) (*child.Child, entry, error) {
		var at string
		p, err := child.Again(ctx, "relay", address, &at)
		return p, entry{raw: at}, err
	}}
	guac, lite = l.guacBroker(ctx), l.liteBroker(ctx)
	return ours, bare, guac, lite
}

// tunnelCPU is the case "tunnel": a stream of images, the best case of the
// other brokers.
func tunnelCPU(ctx context.Context, l *Lab) ([]measure.Result, error) {
	images, err := l.images()
	if err != nil {
		return nil, err
	}
	return l.compareBrokers(ctx, "tunnel.cpu", images, 4)
}

// terminalCPU is the case "terminal": the same with the real guacd's output for
// a shell.
func terminalCPU(ctx context.Context, l *Lab) ([]measure.Result, error) {
	shell, err := l.shell(ctx)
	if err != nil {
		return nil, err
	}
	return l.compareBrokers(ctx, "terminal.cpu", shell, 3)
}

// compareBrokers returns our CPU time relative to each other broker's.
func (l *Lab) compareBrokers(ctx context.Context, name string, s load, rounds int) (rows []measure.Result, err error) {
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
		defer func() { err = errors.Join(err, b.stop()) }()
	}
	used := map[*broker]measure.Sample{}
	err = l.turns(ctx, len(subjects), l.rounds(rounds), func(ctx context.Context, _, i int) error {
		b := subjects[i]
		if err := b.ensure(ctx, far); err != nil {
			return err
		}
		perGiB, err := b.carry(ctx, far, s)
		if err != nil {
			return err
		}
		used[b] = append(used[b], perGiB)
		if b.fresh {
			return b.stop()
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	row := func(what string, b *broker) measure.Result {
		if b.absent != nil {
			return measure.Absent(name+"."+what, "ratio", b.absent.Error())
		}
		return measure.Compare(name+"."+what, "CPU-s/GiB", used[ours], used[b])
	}
	return []measure.Result{
		row("guac", guac).Judge(measure.AtMost, 0.2),
		row("lite", lite).Judge(measure.AtMost, 0.2),
		row("relay", bare).Judge(measure.Untargeted, 0),
	}, nil
}
