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

	"github.com/openova-io/bp-relay/loadtest/internal/apiload/relay"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/loadtest/internal/scenario"
)

// The methods of a scenario's mix.
const (
	Join   = "join"        // JoinRoom
	Create = "create_room" // CreateRoom, under a new name each
	List   = "list_rooms"  // ListRooms, the first page of open rooms
	Get    = "get_room"    // GetRoom
)

// ErrConfig is returned if a Config is invalid.
var ErrConfig = errors.New("apiload: invalid configuration")

// maxCalls bounds the calls of a run, less than a day at 100,000 a second.
const maxCalls = 1 << 32

// Config configures Run.
type Config struct {
	// Load is the scenario's section. Callers bounds the calls under way (1 to
	// 100,000; 0: 64); an empty Mix is joins only; its shares need not add up to 1.
	Load   scenario.API
	Target relay.Target
	// Prefix is that of the rooms' names, by default "loadtest": lower-case
	// letters, digits and hyphens, at most 32.
	Prefix string
	// Rooms is the number of rooms over which joins and gets are spread: 1 to
	// 1,000; 0: 8.
	Rooms int
	// Timeout is that of one call; 0: 10 s.
	Timeout time.Duration
	// Connections is the number of connections to the API over which calls are
	// spread, at most 64; 0: one per 256 callers. A relay accepts 1,024 concurrent
	// calls on each.
	Connections int

	// Tick is called each second and at the end, from one goroutine. It may be nil,
	// as may the functions below.
	Tick func(result.PointPath)
	// Measured is called with the load alone, without its preparation and clean-up.
	// It must call load once.
	Measured func(load func())
	// Errors gets the errors by kind, once at the end.
	Errors func([]result.ErrorLine)
	// Lag records how late each call was started: the generator's own delay, which
	// is part of the calls' latency. It must not be read before Run returns; nil: it
	// is not recorded.
	Lag    *result.Hist
	Logger *slog.Logger // nil: slog.Default()
}

var prefixForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)

// filled returns the configuration with its defaults, or an [ErrConfig].
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
		return bad("api.hold is %s: set how long to call", c.Load.Hold)
	case c.Load.Rate*c.Load.Hold.Seconds() > maxCalls:
		return bad("%v calls per second for %s are more than %d: lower api.rate or api.hold", c.Load.Rate, c.Load.Hold, int64(maxCalls))
	case c.Load.Callers < 1 || c.Load.Callers > 100_000:
		return bad("api.callers is %d: set 1 to 100000", c.Load.Callers)
	case c.Rooms < 1 || c.Rooms > 1000:
		return bad("%d rooms: set 1 to 1000", c.Rooms)
	case c.Timeout < 0 || c.Connections < 1 || c.Connections > 64:
		return bad("a timeout of %s and %d connections: set a positive timeout, and 1 to 64 connections", c.Timeout, c.Connections)
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
			return fmt.Errorf("%w: api.mix has %q: use some of %s", ErrConfig, name, strings.Join(known, ", "))
		}
		if !(share >= 0) || math.IsInf(share, 0) {
			return fmt.Errorf("%w: api.mix gives %s the share %v: set 0 or more", ErrConfig, name, share)
		}
		sum += share
	}
	if sum <= 0 {
		return fmt.Errorf("%w: all shares of api.mix are 0: set at least one above 0", ErrConfig)
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

// rotation returns the methods in their shares as evenly as possible: after any
// number of calls, each method has had its share, to within about one call
// (smooth weighted round robin, as in nginx). It belongs to one goroutine.
type rotation struct {
	names   []string
	shares  []float64
	current []float64
	sum     float64
}

func newRotation(mix map[string]float64) *rotation {
	d := &rotation{}
	for _, name := range slices.Sorted(maps.Keys(mix)) {
		if mix[name] > 0 {
			d.names, d.shares = append(d.names, name), append(d.shares, mix[name])
			d.sum += mix[name]
		}
	}
	d.current = make([]float64, len(d.names))
	return d
}

func (d *rotation) next() string {
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
