package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/openova-io/bp-relay/loadtest/internal/judge"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/loadtest/internal/scenario"
)

// The variables with the secrets for --turn: secrets are never passed in flags.
const (
	turnSecret     = "TURN_SECRET"
	turnUser       = "TURN_USERNAME"
	turnCredential = "TURN_CREDENTIAL"
)

// chosen are the flags that select or change a scenario.
type chosen struct {
	set        []string
	thresholds []string
	local      bool
	livekit    string
	api, org   string
	turn       []string
	paths      []string
	rooms      int
	publishers int
	subs       int
	codec      string
	bitrate    string
	simulcast  int
	hold       time.Duration
	warmup     time.Duration
	// constant removes stages: the population is constant.
	constant bool
	// changed are the keys that flags have changed.
	changed []string
}

func (c *chosen) flags(f *pflag.FlagSet) {
	f.StringArrayVar(&c.set, "set", nil, "change any key of the scenario, e.g. --set media.video.fps=15 (docs/scenarios.md lists all)")
	f.StringArrayVar(&c.thresholds, "threshold", nil, "an additional threshold, e.g. 'turn-udp.latency_p99 < 150ms', 'loss < 0.1%'")
	f.BoolVar(&c.local, "local", false, "start a LiveKit and a STUNner for the run, even if a stack is running")
	f.StringVar(&c.livekit, "livekit", "", "LiveKit's URL; the key and its secret are in $LIVEKIT_API_KEY and $LIVEKIT_API_SECRET")
	f.StringArrayVar(&c.turn, "turn", nil, "TURN server for --livekit: turn:host:port?transport=udp, ...=tcp or turns:host:port; its shared secret is in $"+turnSecret+", or a static user in $"+turnUser+" and $"+turnCredential+"; without --turn, LiveKit names its own")
	f.StringVar(&c.api, "api", "", "relay's gRPC API, host:port; the token is in $RELAY_TOKEN")
	f.StringVar(&c.org, "org", "", "organisation of the rooms, with --api")
	f.StringSliceVar(&c.paths, "path", nil, "paths of the media: direct, turn-udp, turn-tcp, turn-tls")
	f.IntVar(&c.rooms, "rooms", 0, "number of rooms; stages grow with it")
	f.IntVar(&c.publishers, "publishers", 0, "publishers in each room")
	f.IntVar(&c.subs, "subscribers", 0, "subscribers in each room; stages grow with it")
	f.StringVar(&c.codec, "codec", "", "vp8, vp9, av1, h264")
	f.StringVar(&c.bitrate, "bitrate", "", "bit rate of the video, e.g. 1.7Mbps")
	f.IntVar(&c.simulcast, "simulcast", 0, "simulcast layers, 1 to 3")
	f.DurationVar(&c.hold, "hold", 0, "length of the measured part")
	f.DurationVar(&c.warmup, "warmup", 0, "time before the measured part")
}

// read reads the scenario, from a file or the library, and applies the flags.
func (c *chosen) read(name string, f *pflag.FlagSet) (*scenario.Scenario, error) {
	s, err := find(name)
	if err != nil {
		return nil, err
	}
	if err := c.change(s, f); err != nil {
		return nil, usage{err}
	}
	if err := c.target(s); err != nil {
		return nil, usage{err}
	}
	s.Defaults()
	return s, placed(s.Validate(), name, c.changed)
}

// change applies the flags.
func (c *chosen) change(s *scenario.Scenario, f *pflag.FlagSet) error {
	before := s.Rooms.Count * s.Rooms.Subscribers
	if c.constant && s.Load.Mode != scenario.Open {
		s.Load.Stages = nil
	}
	set := func(key, value string) error {
		c.changed = append(c.changed, key)
		return s.Set(key, value)
	}
	for _, kv := range c.set {
		key, value, ok := strings.Cut(kv, "=")
		if !ok {
			return fmt.Errorf("--set %s: want KEY=VALUE", kv)
		}
		if err := set(key, value); err != nil {
			return fmt.Errorf("--set: %w", err)
		}
	}
	hold := "load.hold"
	if s.Kind == result.KindAPI || s.Kind == result.KindTunnel {
		hold = s.Kind + ".hold"
	}
	for _, p := range [][2]string{
		{"rooms", "rooms.count"}, {"publishers", "rooms.publishers"}, {"subscribers", "rooms.subscribers"}, {"codec", "media.video.codec"},
		{"bitrate", "media.video.bitrate"}, {"simulcast", "media.video.simulcast"}, {"hold", hold}, {"warmup", "load.warmup"},
	} {
		if f.Changed(p[0]) {
			if err := set(p[1], f.Lookup(p[0]).Value.String()); err != nil {
				return fmt.Errorf("--%s: %w", p[0], err)
			}
		}
	}
	if (f.Changed("rooms") || f.Changed("subscribers")) && !slices.Contains(c.changed, "load.stages") && !slices.Contains(c.changed, "load") {
		grow(s, before)
	}
	if len(c.paths) > 0 {
		if err := set("paths", "["+strings.Join(c.paths, ", ")+"]"); err != nil {
			return fmt.Errorf("--path: %w", err)
		}
		// Remove a publish path that the scenario names and --path leaves out,
		// but keep one that --set names.
		if s.PublishPath != scenario.Direct && !slices.Contains(c.paths, s.PublishPath) && !slices.Contains(c.changed, "publish_path") {
			s.PublishPath = c.paths[0]
		}
	}
	for _, t := range c.thresholds {
		if _, err := judge.Parse(t); err != nil {
			return fmt.Errorf("--threshold: %w", err)
		}
	}
	s.Thresholds = append(s.Thresholds, c.thresholds...)
	return nil
}

// grow scales stages, whose targets are numbers of subscribers, to another
// population than the one in the scenario.
func grow(s *scenario.Scenario, before int) {
	if before == 0 || s.Load.Mode == scenario.Open {
		return
	}
	s.Load.Stages = slices.Clone(s.Load.Stages)
	for i := range s.Load.Stages {
		t := &s.Load.Stages[i].Target
		*t = math.Round(*t * float64(s.Rooms.Count*s.Rooms.Subscribers) / float64(before))
	}
}

// placed names where the problems are: the file, or the flags that changed the
// key.
func placed(err error, name string, changed []string) error {
	var invalid *scenario.InvalidError
	if !errors.As(err, &invalid) {
		return err
	}
	for i, p := range invalid.Problems {
		for _, key := range changed {
			if rest, is := strings.CutPrefix(p.Field, key); is && (rest == "" || strings.ContainsAny(rest[:1], ".[")) {
				invalid.Problems[i].Line, invalid.Problems[i].Column = 0, 0
			}
		}
	}
	if len(changed) > 0 {
		name += " with these flags"
	}
	return fmt.Errorf("%s: %w", name, err)
}

func (c *chosen) target(s *scenario.Scenario) error {
	given := 0
	for _, is := range []bool{c.local, c.livekit != "", c.api != ""} {
		if is {
			given++
		}
	}
	if given > 1 {
		return errors.New("--local, --livekit and --api exclude each other")
	}
	switch {
	case c.org != "" && c.api == "":
		return errors.New("--org needs --api HOST:PORT")
	case c.api != "" && c.org == "":
		return errors.New("--api needs --org, the organisation that the token is for")
	case len(c.turn) > 0 && c.livekit == "":
		return errors.New("--turn needs --livekit URL")
	}
	if given == 1 {
		s.Target.Local, s.Target.LiveKit, s.Target.API = c.local, nil, nil
	}
	if c.livekit != "" {
		s.Target.LiveKit = &scenario.LiveKit{URL: c.livekit}
		for _, url := range c.turn {
			t := scenario.TURN{URL: url, SecretEnv: turnSecret}
			if os.Getenv(turnSecret) == "" && os.Getenv(turnUser) != "" {
				t = scenario.TURN{URL: url, Username: os.Getenv(turnUser), CredentialEnv: turnCredential}
			}
			s.Target.LiveKit.TURN = append(s.Target.LiveKit.TURN, t)
		}
	}
	if c.api != "" {
		s.Target.API = &scenario.APITarget{Address: c.api, Org: c.org}
	}
	return nil
}

// find reads a file, or else a scenario of the library.
func find(name string) (*scenario.Scenario, error) {
	s, err := scenario.ReadFile(name)
	switch {
	case err == nil:
		return s, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, usage{err}
	}
	if s, err = scenario.Named(name); err != nil {
		return nil, usage{fmt.Errorf("%s is neither a file nor a ready-made scenario; those are: %s", name, strings.Join(scenario.Library(), ", "))}
	}
	return s, nil
}
