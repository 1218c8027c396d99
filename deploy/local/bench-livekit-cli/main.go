// Command bench-livekit-cli runs the subscribers of livekit-cli's load tester
// (pkg/loadtester of github.com/livekit/livekit-cli) as a child process: a
// baseline for make bench. It does not publish.
//
// It prints {"value": null} once it has started. The first line of its standard
// input is a config; the answer comes when all have joined. The answer to each
// further line is how many are still in the room. It exits when its standard
// input ends. It does not report what the subscribers received: the package
// only prints that as a table at the end, so the bench asks the SFU what it
// sent.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/go-logr/logr"
	"github.com/livekit/livekit-cli/v2/pkg/loadtester"
	"github.com/livekit/protocol/logger"
	lksdk "github.com/livekit/server-sdk-go/v2"
	"golang.org/x/sync/errgroup"
)

// config is the first line.
type config struct {
	// URL is LiveKit's signalling address; Room is the room's name in LiveKit.
	URL, Key, Secret, Room string
	Subscribers            int
	// Prefix begins the identity of each subscriber.
	Prefix string
	// Layout is "speaker", "3x3", "4x4" or "5x5": how many videos they watch,
	// and how large. Without one they disable every video.
	Layout string
	// PerSecond is how many begin to join in a second, at most 10.
	PerSecond float64
}

func main() {
	out := json.NewEncoder(os.Stdout)
	// The package prints a line for each track. That must not mix with the
	// answers; it goes to the null device, where it costs least.
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err == nil {
		os.Stdout = null
		err = run(json.NewDecoder(os.Stdin), out)
	}
	if err != nil {
		_ = out.Encode(map[string]string{"error": err.Error()})
		fmt.Fprintln(os.Stderr, "bench-livekit-cli:", err)
		os.Exit(1)
	}
}

func run(in *json.Decoder, out *json.Encoder) error {
	lksdk.SetLogger(logger.LogRLogger(logr.Discard())) // as lk does without --verbose
	if err := out.Encode(map[string]any{"value": nil}); err != nil {
		return err
	}
	var c config
	if err := in.Decode(&c); err != nil {
		return inputEnd(err)
	}
	if c.Layout == "" || c.Subscribers < 1 || c.PerSecond <= 0 {
		return fmt.Errorf("config: want a layout, subscribers and joins per second, got %q, %d and %v", c.Layout, c.Subscribers, c.PerSecond)
	}
	testers, err := join(c)
	defer func() {
		for _, t := range testers {
			t.Stop()
		}
	}()
	if err != nil {
		return err
	}
	for {
		running := 0
		for _, t := range testers {
			if t.IsRunning() {
				running++
			}
		}
		if err := out.Encode(map[string]int{"value": running}); err != nil {
			return err
		}
		var none any
		if err := in.Decode(&none); err != nil {
			return inputEnd(err)
		}
	}
}

// join starts the testers as loadtester.LoadTest does, each in a goroutine.
func join(c config) ([]*loadtester.LoadTester, error) {
	var all []*loadtester.LoadTester
	var starts errgroup.Group
	tick := time.NewTicker(time.Duration(float64(time.Second) / c.PerSecond))
	defer tick.Stop()
	for i := range c.Subscribers {
		t := loadtester.NewLoadTester(loadtester.TesterParams{
			URL: c.URL, APIKey: c.Key, APISecret: c.Secret, Room: c.Room,
			IdentityPrefix: c.Prefix, Sequence: i, Layout: loadtester.LayoutFromString(c.Layout), Subscribe: true,
		})
		all = append(all, t)
		starts.Go(func() error {
			if err := t.Start(); err != nil {
				return fmt.Errorf("subscriber %d: %w", i, err)
			}
			return nil
		})
		<-tick.C
	}
	return all, starts.Wait()
}

// inputEnd returns nil if err is the end of the input.
func inputEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
