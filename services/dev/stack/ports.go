package stack

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/gofrs/flock"

	"github.com/openova-io/bp-relay/services/dev/part"
)

// Port is a loopback port that a part listens on.
type Port struct {
	Number int
	// Use says what the port is for: "S3 API".
	Use string
	// Flag is the flag that sets it, or "".
	Flag string
	UDP  bool
}

// Free ports are picked below Linux's default range for outgoing connections
// (32768 to 60999), so that none of those takes a port after it was picked and
// before the part binds it.
const firstPort, lastPort = 20000, 31999

// Ports hands out free loopback ports. A lock file for each port keeps two
// processes from getting the same one, however long a part takes to bind it.
// It is safe for concurrent use.
type Ports struct {
	mu    sync.Mutex
	locks []*flock.Flock
	table *table // of [Ports.Guard]; nil if nothing is guarded
}

// Take returns a port that is free for TCP and UDP on 127.0.0.1, and keeps
// every other Ports on this machine from handing it out until Release.
func (p *Ports) Take() (int, error) {
	dir := filepath.Join(os.TempDir(), "bp-relay-ports-"+strconv.Itoa(os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, fmt.Errorf("stack: pick a port: %w", err)
	}
	for range 1000 {
		n := firstPort + rand.IntN(lastPort-firstPort+1)
		lock := flock.New(filepath.Join(dir, strconv.Itoa(n)))
		if ok, err := lock.TryLock(); err != nil {
			return 0, fmt.Errorf("stack: pick a port: %w", err)
		} else if !ok {
			continue
		}
		if bindable(n, false) != nil || bindable(n, true) != nil {
			_ = lock.Close()
			continue
		}
		p.mu.Lock()
		p.locks = append(p.locks, lock)
		p.mu.Unlock()
		return n, nil
	}
	return 0, errors.New("stack: no free loopback port from 20000 to 31999")
}

// Release gives back every port taken and guarded. The parts that listened must
// have stopped.
func (p *Ports) Release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.locks {
		_ = l.Close()
	}
	p.locks = nil
	if p.table != nil {
		_ = p.table.close()
		p.table = nil
	}
}

// bindable returns why n cannot be bound on 127.0.0.1, or nil.
func bindable(n int, udp bool) error {
	var lc net.ListenConfig
	ctx := context.Background() // binding does not wait
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(n))
	if udp {
		c, err := lc.ListenPacket(ctx, "udp4", addr)
		if err != nil {
			return err
		}
		return c.Close()
	}
	l, err := lc.Listen(ctx, "tcp4", addr)
	if err != nil {
		return err
	}
	return l.Close()
}

// check returns a *PortTakenError if the port is in use. It retries for 200 ms:
// while another part is being started, its child holds a copy of the socket
// that bindable has just tried, from fork until exec.
func (p Port) check(name part.Name) error {
	err := bindable(p.Number, p.UDP)
	for wait := time.Millisecond; errors.Is(err, syscall.EADDRINUSE) && wait < 200*time.Millisecond; wait *= 2 {
		time.Sleep(wait)
		err = bindable(p.Number, p.UDP)
	}
	if err == nil {
		return nil
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return &PortTakenError{Part: name, Port: p, Owner: portOwner(p.Number, p.UDP)}
	}
	return fmt.Errorf("%s: port %d for its %s: %w", name, p.Number, p.Use, err)
}
