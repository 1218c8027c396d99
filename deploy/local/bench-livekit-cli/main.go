// Command bench-livekit-cli is the subscriber of livekit-cli's load tester
// (pkg/loadtester of github.com/livekit/livekit-cli) as a child process: a
// baseline for make bench. It only subscribes: the module carries no media.
//
// It says {"value": null} when it has started. The first line of its standard
// input says where to and how many; the answer comes when all have joined.
// Each further line is answered with how many are in the room still. It ends
// when its standard input does. What the testers received is not here: the
// package counts it, but shows it only as a printed table at the end, so that
// the bench asks the SFU what it sent.
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
	// URL is LiveKit's signalling address; the room's name is taken as it is.
	URL, Key, Secret, Room string
	Subscribers            int
	// Prefix begins the identity of each subscriber.
	Prefix string
	// Layout is "speaker", "3x3", "4x4" or "5x5": how many they watch, and how
	// large. Without one the testers switch each picture off.
	Layout string
	// PerSecond is how many begin to join in a second; livekit-cli allows 10.
	PerSecond float64
}

func main() {
	out := json.NewEncoder(os.Stdout)
	// The package prints a line for each track. It must not meet the answers,
	// and its cost is part of the baseline's: so to where printing is cheap.
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
		return ended(err)
	}
	if c.Layout == "" || c.Subscribers < 1 || c.PerSecond <= 0 {
		return fmt.Errorf("a layout, subscribers and joins per second are needed, not %q, %d and %v", c.Layout, c.Subscribers, c.PerSecond)
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
			return ended(err)
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

// ended takes the end of the input for what it is.
func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
