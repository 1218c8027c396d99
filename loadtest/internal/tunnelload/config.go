package tunnelload

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/openova-io/bp-relay/loadtest/internal/apiload/relay"
	"github.com/openova-io/bp-relay/loadtest/internal/guacd"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/loadtest/internal/scenario"
)

// ErrConfig is returned if a Config is invalid.
var ErrConfig = errors.New("tunnelload: invalid configuration")

// Config configures Run.
type Config struct {
	// Load is the scenario's section: 1 to 5,000 Sessions; Replay names a .guac
	// file; Rate, in bytes per second of each session, is at most 100 MiB, and 1
	// MiB for images if it is 0; Hold counts from the time when all sessions are
	// open.
	Load scenario.Tunnel

	// Relay configures the relay that is started for the run, in front of the
	// synthetic guacd; if its Dir is empty, a temporary one is used. The flags
	// --guacd.address and --turn.gateway= are added if Args lacks them. Since a user
	// may open 60 sessions a minute, as many users as needed are created.
	Relay relay.InstanceConfig
	// Target is a running relay whose guacd is Guacd; nil: Relay is started. Sessions
	// beyond its limit of 60 a minute wait.
	Target *relay.Target
	// Guacd is the synthetic guacd, which Run serves and closes at the end; nil: Run
	// starts one.
	Guacd *guacd.Server

	// Started is called with the process id of the relay that was started, before
	// any load. It may be nil, as may the functions below.
	Started func(name string, pid int)
	// Tick is called each second from when the first session is opened, and at the
	// end, from one goroutine.
	Tick func(result.PointPath)
	// Measured is called with the load alone, without its preparation and clean-up.
	// It must call load once.
	Measured func(load func())
	// Errors gets the errors by kind, once at the end.
	Errors func([]result.ErrorLine)
	// Lag records how late this process wrote each update that it waited for. It
	// must not be read before Run returns; nil: it is not recorded.
	Lag    *result.Hist
	Logger *slog.Logger // nil: slog.Default()
}

const maxRate = 100 << 20

// filled returns the configuration with its defaults, or an [ErrConfig].
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
		return bad("tunnel.rate is %d: set bytes per second up to %d, or 0 for the recorded rate", c.Load.Rate, maxRate)
	case c.Load.Hold <= 0 || c.Load.Hold > 24*time.Hour:
		return bad("tunnel.hold is %s: set how long to send, at most 24 h", c.Load.Hold)
	case c.Target != nil && c.Guacd == nil:
		return bad("a running relay needs its guacd: set both Target and Guacd, or neither")
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

// replay returns the recording that the sessions replay.
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
