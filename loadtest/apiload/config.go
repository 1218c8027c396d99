package apiload

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/openova-io/bp-relay/loadtest/apiload/relay"
	"github.com/openova-io/bp-relay/loadtest/report"
	"github.com/openova-io/bp-relay/loadtest/scenario"
)

// The methods of a scenario's mix.
const (
	Join   = "join"        // JoinRoom
	Create = "create_room" // CreateRoom, under a new name each
	List   = "list_rooms"  // ListRooms, the first page of open rooms
	Get    = "get_room"    // GetRoom
)

// ErrConfig wraps what is wrong with a Config.
var ErrConfig = errors.New("apiload: cannot run this")

// maxCalls bounds a run: what a load of 100,000 calls per second makes in a
// day does not fit into it.
const maxCalls = 1 << 32

// Config says what is called, how often, and who hears of it.
type Config struct {
	// Load is the scenario's section. Callers bounds the calls under way (1 to
	// 100,000; 64 where it is 0); a Mix that is empty is joins only; its shares
	// need not add up to 1.
	Load   scenario.API
	Target relay.Target
	// Prefix of the rooms' names, "loadtest" where it is empty: lower-case
	// letters, digits and hyphens, at most 32.
	Prefix string
	// Rooms that joins and gets are spread over: 1 to 1,000, 8 where it is 0.
	Rooms int
	// Timeout of one call, 10 s where it is 0.
	Timeout time.Duration
	// Connections to the API, over which calls are spread: one per 256 callers
	// where it is 0, at most 64. A relay takes 1,024 calls at once on each.
	Connections int

	// Tick, where it is set, is called each second and at the end, from one
	// goroutine.
	Tick func(report.PointPath)
	// Measured, where it is set, is called with the load, without what is prepared
	// before it and tidied up after it. It calls it once, or there is no load.
	Measured func(load func())
	// Errors, where it is set, gets the errors by kind once at the end.
	Errors func([]report.ErrorLine)
	// Lag, where it is set, gets how late each call was begun against its
	// moment: the generator's own delay, which the calls' time contains. It is
	// not to be read before Run has returned.
	Lag    *report.Hist
	Logger *slog.Logger // slog.Default() where it is nil
}

var prefixForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)

// filled is the configuration with its defaults, or what is wrong with it.
func (c Config) filled() (Config, error) {
	if err := c.Target.Check(); err != nil {
		return c, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	c.Load.Callers = fill(c.Load.Callers, 64)
	c.Rooms = fill(c.Rooms, 8)
	c.Timeout = fill(c.Timeout, 10*time.Second)
	c.Connections = fill(c.Connections, min(64, 1+c.Load.Callers/256))
	if c.Prefix == "" {
		c.Prefix = "loadtest"
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if len(c.Load.Mix) == 0 {
		c.Load.Mix = map[string]float64{Join: 1}
	}
	bad := func(format string, args ...any) (Config, error) {
		return c, fmt.Errorf("%w: "+format, append([]any{ErrConfig}, args...)...)
	}
	switch {
	case !(c.Load.Rate > 0) || math.IsInf(c.Load.Rate, 0):
		return bad("api.rate is %v: set the calls per second", c.Load.Rate)
	case c.Load.Hold <= 0:
		return bad("api.hold is %s: say how long to call", c.Load.Hold)
	case c.Load.Rate*c.Load.Hold.Seconds() > maxCalls:
		return bad("%v calls per second for %s are more than %d: lower api.rate or api.hold", c.Load.Rate, c.Load.Hold, int64(maxCalls))
	case c.Load.Callers < 1 || c.Load.Callers > 100_000:
		return bad("api.callers is %d: set 1 to 100000", c.Load.Callers)
	case c.Rooms < 1 || c.Rooms > 1000:
		return bad("%d rooms: set 1 to 1000", c.Rooms)
	case c.Timeout < 0 || c.Connections < 1 || c.Connections > 64:
		return bad("a timeout of %s and %d connections: set a positive one, and 1 to 64", c.Timeout, c.Connections)
	case !prefixForm.MatchString(c.Prefix):
		return bad("rooms.prefix %q: use lower-case letters, digits and hyphens, at most 32", c.Prefix)
	}
	return c, c.checkMix()
}

func (c Config) checkMix() error {
	known := []string{Create, Get, Join, List}
	var sum float64
	for name, share := range c.Load.Mix {
		if !slices.Contains(known, name) {
			return fmt.Errorf("%w: api.mix has %q: take some of %s", ErrConfig, name, strings.Join(known, ", "))
		}
		if !(share >= 0) || math.IsInf(share, 0) {
			return fmt.Errorf("%w: api.mix gives %s the share %v: set 0 or more", ErrConfig, name, share)
		}
		sum += share
	}
	if sum <= 0 {
		return fmt.Errorf("%w: all shares of api.mix are 0: give one method more", ErrConfig)
	}
	return nil
}

func fill[T comparable](v, usual T) T {
	var none T
	if v == none {
		return usual
	}
	return v
}

// deal hands out the methods in their shares, as evenly as can be: after any
// number of calls each has had its part, to one call or so (smooth weighted
// round robin, as in nginx). It belongs to one goroutine.
type deal struct {
	names   []string
	shares  []float64
	current []float64
	sum     float64
}

func newDeal(mix map[string]float64) *deal {
	d := &deal{}
	for _, name := range slices.Sorted(maps.Keys(mix)) {
		if mix[name] > 0 {
			d.names, d.shares = append(d.names, name), append(d.shares, mix[name])
			d.sum += mix[name]
		}
	}
	d.current = make([]float64, len(d.names))
	return d
}

func (d *deal) next() string {
	best := 0
	for i, share := range d.shares {
		d.current[i] += share
		if d.current[i] > d.current[best] {
			best = i
		}
	}
	d.current[best] -= d.sum
	return d.names[best]
}
