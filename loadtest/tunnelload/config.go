package tunnelload

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/openova-io/bp-relay/loadtest/apiload/relay"
	"github.com/openova-io/bp-relay/loadtest/guacd"
	"github.com/openova-io/bp-relay/loadtest/report"
	"github.com/openova-io/bp-relay/loadtest/scenario"
)

// ErrConfig wraps what is wrong with a Config.
var ErrConfig = errors.New("tunnelload: cannot run this")

// Config says what is carried through which relay, and who hears of it.
type Config struct {
	// Load is the scenario's section: 1 to 5,000 Sessions; Replay names a .guac
	// file; Rate, in bytes per second of each session, is at most 100 MiB, and
	// 1 MiB for images where it is 0; Hold counts from when all sessions are open.
	Load scenario.Tunnel

	// Relay says how a relay is started for the run, in front of the synthetic
	// guacd; its Dir may be empty for one that is removed at the end. The flags
	// --guacd.address and --turn.gateway= are added where Args has none. A
	// person may open 60 sessions a minute: as many people as it takes are made
	// up.
	Relay relay.ProcessConfig
	// Target is a relay that runs already, whose guacd is the one in Guacd;
	// nil: the one above. Sessions beyond 60 a minute wait for its limit.
	Target *relay.Target
	// Guacd is the synthetic one, which Run serves and closes at the end; nil:
	// one of Run's own.
	Guacd *guacd.Server

	// Started, where it is set, is told the process id of the relay that was
	// started, before any load.
	Started func(name string, pid int)
	// Tick, where it is set, is called each second from when the first session
	// is opened, and at the end, from one goroutine.
	Tick func(report.PointPath)
	// Measured, where it is set, is called with the load, without what is prepared
	// before it and tidied up after it. It calls it once, or there is no load.
	Measured func(load func())
	// Errors, where it is set, gets the errors by kind once at the end.
	Errors func([]report.ErrorLine)
	// Lag, where it is set, gets how late this process itself was to write
	// each update that it waited for. It is not to be read before Run has
	// returned.
	Lag    *report.Hist
	Logger *slog.Logger // slog.Default() where it is nil
}

const maxRate = 100 << 20

// filled is the configuration with its defaults, or what is wrong with it.
func (c Config) filled() (Config, error) {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	bad := func(format string, args ...any) (Config, error) {
		return c, fmt.Errorf("%w: "+format, append([]any{ErrConfig}, args...)...)
	}
	switch {
	case c.Load.Sessions < 1 || c.Load.Sessions > 5000:
		return bad("tunnel.sessions is %d: set 1 to 5000", c.Load.Sessions)
	case c.Load.Rate < 0 || c.Load.Rate > maxRate:
		return bad("tunnel.rate is %d: set bytes per second up to %d, or 0 for as recorded", c.Load.Rate, maxRate)
	case c.Load.Hold <= 0 || c.Load.Hold > 24*time.Hour:
		return bad("tunnel.hold is %s: say how long to send, at most 24 h", c.Load.Hold)
	case c.Target != nil && c.Guacd == nil:
		return bad("a relay that runs already is of no use without its guacd: give both, or let one be started")
	case c.Target != nil:
		if err := c.Target.Check(); err != nil {
			return c, fmt.Errorf("%w: %w", ErrConfig, err)
		}
	}
	if c.Load.Replay == "" && c.Load.Rate == 0 {
		c.Load.Rate = imagesRate
	}
	return c, nil
}

// replay is what the sessions show.
func (c Config) replay() (r *Replay, err error) {
	if c.Load.Replay == "" {
		return images(c.Load.Rate)
	}
	f, err := os.Open(c.Load.Replay)
	if err != nil {
		return nil, fmt.Errorf("%w: tunnel.replay: %w", ErrConfig, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if r, err = Read(f); err != nil {
		return nil, fmt.Errorf("%w: tunnel.replay: %s: %w", ErrConfig, f.Name(), err)
	}
	return r, nil
}
