package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/openova-io/bp-relay/loadtest/report"
	"github.com/openova-io/bp-relay/loadtest/scenario"
)

// chosen are the flags that make or change a scenario.
type chosen struct {
	set        []string
	thresholds []string
	local      bool
	livekit    string
	api, org   string
	paths      []string
	rooms      int
	publishers int
	subs       int
	codec      string
	bitrate    string
	simulcast  int
	hold       time.Duration
	warmup     time.Duration
}

func (c *chosen) flags(f *pflag.FlagSet) {
	f.StringArrayVar(&c.set, "set", nil, "change any key of the scenario, e.g. --set media.video.fps=15 (docs/scenarios.md has all)")
	f.StringArrayVar(&c.thresholds, "threshold", nil, "a further threshold, e.g. 'turn-udp.latency_p99 < 150ms', 'loss < 0.1%'")
	f.BoolVar(&c.local, "local", false, "start a LiveKit and a STUNner for the run, whatever runs already")
	f.StringVar(&c.livekit, "livekit", "", "LiveKit's URL; the key and its secret are in $LIVEKIT_API_KEY and $LIVEKIT_API_SECRET")
	f.StringVar(&c.api, "api", "", "relay's gRPC API, host:port; the token is in $RELAY_TOKEN")
	f.StringVar(&c.org, "org", "", "organisation, with --api")
	f.StringSliceVar(&c.paths, "path", nil, "paths of the media: direct, turn-udp, turn-tcp, turn-tls")
	f.IntVar(&c.rooms, "rooms", 0, "number of rooms")
	f.IntVar(&c.publishers, "publishers", 0, "publishers in each room")
	f.IntVar(&c.subs, "subscribers", 0, "subscribers in each room")
	f.StringVar(&c.codec, "codec", "", "vp8, vp9, av1, h264")
	f.StringVar(&c.bitrate, "bitrate", "", "of the video, e.g. 1.7Mbps")
	f.IntVar(&c.simulcast, "simulcast", 0, "layers, 1 to 3")
	f.DurationVar(&c.hold, "hold", 0, "length of the measured part")
	f.DurationVar(&c.warmup, "warmup", 0, "time before it")
}

// read finds the scenario, a file or one of the library, and changes it.
func (c *chosen) read(name string, f *pflag.FlagSet) (*scenario.Scenario, error) {
	s, err := find(name)
	if err != nil {
		return nil, err
	}
	for _, kv := range c.set {
		key, value, ok := strings.Cut(kv, "=")
		if !ok {
			return nil, usage{fmt.Errorf("--set %s: want KEY=VALUE", kv)}
		}
		if err := s.Set(key, value); err != nil {
			return nil, usage{err}
		}
	}
	for _, p := range [][2]string{
		{"rooms", "rooms.count"}, {"publishers", "rooms.publishers"}, {"subscribers", "rooms.subscribers"}, {"codec", "media.video.codec"},
		{"bitrate", "media.video.bitrate"}, {"simulcast", "media.video.simulcast"}, {"hold", "load.hold"}, {"warmup", "load.warmup"},
	} {
		if f.Changed(p[0]) {
			if err := s.Set(p[1], f.Lookup(p[0]).Value.String()); err != nil {
				return nil, usage{err}
			}
		}
	}
	if len(c.paths) > 0 {
		s.Paths = c.paths
		if s.PublishPath != scenario.Direct {
			s.PublishPath = c.paths[0]
		}
	}
	s.Thresholds = append(s.Thresholds, c.thresholds...)
	if err := c.target(s); err != nil {
		return nil, err
	}
	s.Defaults()
	return s, s.Validate()
}

func (c *chosen) target(s *scenario.Scenario) error {
	given := 0
	for _, is := range []bool{c.local, c.livekit != "", c.api != ""} {
		if is {
			given++
		}
	}
	if given > 1 {
		return usage{errors.New("--local, --livekit and --api exclude each other")}
	}
	if given == 1 {
		s.Target.Local, s.Target.LiveKit, s.Target.API = c.local, nil, nil
	}
	if c.livekit != "" {
		s.Target.LiveKit = &scenario.LiveKit{URL: c.livekit}
	}
	if c.api != "" {
		s.Target.API = &scenario.APITarget{Address: c.api, Org: c.org}
	}
	return nil
}

// find reads a file, or else takes a scenario of the library.
func find(name string) (*scenario.Scenario, error) {
	s, err := scenario.ReadFile(name)
	if !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	if strings.ContainsAny(name, "./") {
		return nil, err
	}
	s, err = scenario.Named(name)
	if err != nil {
		return nil, usage{fmt.Errorf("%s is neither a file nor a ready scenario; these are: %s", name, strings.Join(scenario.Library(), ", "))}
	}
	return s, nil
}

func scenariosCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "scenarios [NAME]",
		Short: "List the ready scenarios, or print one as a start for your own",
		Example: `  relay-loadtest scenarios
  relay-loadtest scenarios meeting > my.yaml`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			if len(a) == 1 {
				text, err := scenario.Source(a[0])
				if err != nil {
					return usage{err}
				}
				_, err = cmd.OutOrStdout().Write(text)
				return err
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			for _, n := range scenario.Library() {
				fmt.Fprintf(w, "%s\t%s\n", n, scenario.About(n))
			}
			return w.Flush()
		},
	}
}

func schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "Print the JSON Schema of reports", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(report.SchemaJSON())
			return err
		},
	}
}

// readReport reads a report's file.
func readReport(path string) (*report.Report, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read from
	r, err := report.Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}
