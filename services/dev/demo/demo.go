// Package demo proves that the main job works, end to end, on real input. It
// records a call with two participants, opens a shell through the tunnel and
// records it, exports both, and checks that every alteration of an export is
// found. It does what an application backend, a browser and an auditor would do,
// through the public API only, and checks the results with independent programs:
// ffprobe, ffmpeg, a decoder of pictures.
//
// It prints what it does, stops everything that it started on every path, and
// succeeds only if every check passed.
package demo

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/openova-io/bp-relay/services/dev/part"
	"github.com/openova-io/bp-relay/services/dev/stack"
)

// Relay is a running relay, as an application backend sees it.
type Relay struct {
	// API is host:port of the API.
	API string
	// Token signs a bearer token for a subject of Org with these roles.
	Token func(subject string, roles ...string) (string, error)
	// Org is the organisation of everything that the demo creates.
	Org string
	// About describes the stack, and Logs says where its logs are, for people.
	About, Logs string
	// Stop stops it, and removes its files unless something failed. It is nil if
	// the demo did not start it.
	Stop func(failed bool) error
}

// Config says what to run the demo on.
type Config struct {
	// Stack finds or starts the stack. It writes the progress of long work to
	// progress, from one goroutine at a time.
	Stack func(ctx context.Context, progress io.Writer) (Relay, error)
	// Seconds is the duration of the recording, 2 to 600.
	Seconds int
	// Dir gets a folder per run, with everything that the demo downloads.
	Dir string
	// Media is where test media is kept between runs; "" means the user's cache.
	Media string
	// Keep keeps the altered bags, the room and the connection.
	Keep bool
	// Out receives the output.
	Out io.Writer
}

// ErrFailed means that a check or a step failed. The output has already said which
// one, and where to look.
var ErrFailed = errors.New("demo: not every check passed")

// run is one run of the demo.
type run struct {
	cfg   Config
	story *story
	tag   string // makes names unique
	dir   string // of this run
	log   *slog.Logger
	stack Relay
	tools part.Tools
	after []func(context.Context) error // called at the end, in reverse

	api    *client
	logKey string
	sshd   *stack.SSHD
	call   call
	shell  shell
	bags   []exported
	failed bool
	found  int // altered copies that verification refused
	tried  int
}

// step is one part of the demo.
type step struct {
	title string
	do    func(context.Context) error
}

// Run runs the demo. It returns ErrFailed if a check failed, and the context's
// error after an interrupt; the output has already said so in both cases.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Seconds < 2 || cfg.Seconds > 600 {
		return fmt.Errorf("demo: %d seconds: want 2 to 600", cfg.Seconds)
	}
	r, closeLog, err := newRun(cfg)
	if err != nil {
		return err
	}
	defer closeLog()
	steps := []step{
		{"The stack, and a host to open a shell on", r.prepare},
		{"A call: two participants publish 720p VP8 and Opus, one of them through TURN only", r.join},
		{fmt.Sprintf("Recording it for %d s", cfg.Seconds), r.record},
		{"A shell as a browser opens it: ticket, WebSocket tunnel, keys, pictures", r.open},
		{"Terminating the session, and comparing its recording", r.terminate},
		{"Evidence: two exports verify, every altered copy does not", r.prove},
	}
	r.story = newStory(cfg.Out, len(steps))
	began := time.Now()
	fmt.Fprintf(cfg.Out, "The main job of bp-relay on real media and a real shell, through the public API.\nFiles go to %s\n", r.dir)
	err = r.steps(ctx, steps)
	r.failed = errors.Is(err, ErrFailed)
	if e := r.cleanUp(ctx); e != nil {
		r.story.bad("cleaning up: %v", e)
		err = errors.Join(err, ErrFailed)
	}
	if err != nil {
		return err
	}
	r.summary(time.Since(began))
	return nil
}

func newRun(cfg Config) (*run, func(), error) {
	random := make([]byte, 2)
	if _, err := rand.Read(random); err != nil {
		return nil, nil, fmt.Errorf("demo: %w", err)
	}
	r := &run{cfg: cfg, tag: time.Now().UTC().Format("20060102-150405") + "-" + hex.EncodeToString(random)}
	r.dir = filepath.Join(cfg.Dir, r.tag)
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("demo: make the folder of this run: %w", err)
	}
	log, err := os.Create(r.file("demo.log"))
	if err != nil {
		return nil, nil, fmt.Errorf("demo: %w", err)
	}
	r.log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	return r, func() { _ = log.Close() }, nil
}

// file returns the path of a file of this run.
func (r *run) file(name string) string { return filepath.Join(r.dir, name) }

func (r *run) steps(ctx context.Context, steps []step) error {
	for i, s := range steps {
		r.story.begin(s.title)
		err := s.do(ctx)
		switch {
		case err == nil:
			continue
		case ctx.Err() != nil:
			fmt.Fprintf(r.cfg.Out, "\nInterrupted in step %d. Stopping what the demo started. Its results so far are in %s\n", i+1, r.dir)
			return context.Cause(ctx)
		}
		r.story.bad("%v", err)
		fmt.Fprintf(r.cfg.Out, "\nFAILED in step %d: %s.\n  results so far and the demo's log: %s\n", i+1, s.title, r.dir)
		if r.stack.Logs != "" {
			fmt.Fprintf(r.cfg.Out, "  logs of the stack: %s\n", r.stack.Logs)
		}
		return ErrFailed
	}
	return nil
}

// cleanUp stops everything that this run started, the newest first, also after an
// interrupt.
func (r *run) cleanUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	var errs []error
	for _, fn := range slices.Backward(r.after) {
		if err := fn(ctx); err != nil {
			r.log.ErrorContext(ctx, "cannot clean up", "error", err)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (r *run) later(fn func(context.Context) error) { r.after = append(r.after, fn) }

// until polls ask until it returns true or an error, for a bounded time.
func until(ctx context.Context, within time.Duration, what string, ask func() (bool, error)) error {
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := ask()
		if err != nil || ok {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-deadline.C:
			return fmt.Errorf("%s: not within %s", what, within)
		case <-tick.C:
		}
	}
}
