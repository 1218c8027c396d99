// Package demo is the proof that the main job works, end to end, on real
// input: a call with two participants is recorded, a shell is opened through
// the tunnel and recorded, both are exported, and every alteration of an
// export is found. It does what an application backend, a browser and an
// auditor would do, through the public API only, and it looks at the results
// with programs that know nothing of ours: ffprobe, ffmpeg, a decoder of
// pictures.
//
// It tells what it does as it goes, stops everything that it started on every
// path, and succeeds only when all of it held.
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

	"github.com/openova-io/bp-relay/services/local"
)

// Stack is a relay that runs, as an application backend sees it.
type Stack struct {
	// API is host:port of the API.
	API string
	// Token signs a bearer token for a subject of Org with these roles.
	Token func(subject string, roles ...string) (string, error)
	// Org is the organisation that everything belongs to.
	Org string
	// About says in words which stack it is, Logs where its logs are.
	About, Logs string
	// Stop ends it, and removes what it kept unless something failed; nil
	// where it was running before.
	Stop func(failed bool) error
}

// Config says what to demonstrate with.
type Config struct {
	// Stack finds or starts the stack; long work is told to progress, from
	// one goroutine at a time.
	Stack func(ctx context.Context, progress io.Writer) (Stack, error)
	// Seconds is how long the call is recorded: 2 to 600.
	Seconds int
	// Dir gets a folder per run, with everything that was downloaded.
	Dir string
	// Media keeps made test media between runs; "" means the user's cache.
	Media string
	// Keep keeps the altered bags, the room and the connection.
	Keep bool
	// Out is where the story goes.
	Out io.Writer
}

// ErrFailed tells that something did not hold, or could not be done. The story
// has told what and where to look.
var ErrFailed = errors.New("demo: not everything held")

// run is one demonstration.
type run struct {
	cfg   Config
	story *story
	tag   string // makes names unique
	dir   string // of this run
	log   *slog.Logger
	stack Stack
	tools local.Tools
	after []func(context.Context) error // in reverse, at the end

	api    *client
	logKey string
	sshd   *local.SSHD
	call   call
	shell  shell
	bags   []exported
	failed bool
	found  int // alterations that were found
	tried  int
}

// step is one part of the story.
type step struct {
	title string
	do    func(context.Context) error
}

// Run tells and does it all. It returns ErrFailed (told), or the context's
// error after an interrupt (told, too).
func Run(ctx context.Context, cfg Config) error {
	if cfg.Seconds < 2 || cfg.Seconds > 600 {
		return fmt.Errorf("demo: %d seconds; record 2 to 600", cfg.Seconds)
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
		{"A shell in the browser's way: ticket, WebSocket tunnel, keys, pictures", r.open},
		{"Terminating the session, and what was recorded of it", r.terminate},
		{"Evidence: two exports verify, every altered copy does not", r.prove},
	}
	r.story = newStory(cfg.Out, len(steps))
	began := time.Now()
	fmt.Fprintf(cfg.Out, "The main job of bp-relay on real media and a real shell, through the public API.\nFiles go to %s\n", r.dir)
	err = r.steps(ctx, steps)
	r.failed = errors.Is(err, ErrFailed)
	if e := r.tidy(ctx); e != nil {
		r.story.bad("tidying up: %v", e)
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

// file is a file of this run.
func (r *run) file(name string) string { return filepath.Join(r.dir, name) }

func (r *run) steps(ctx context.Context, steps []step) error {
	for i, s := range steps {
		r.story.begin(s.title)
		err := s.do(ctx)
		switch {
		case err == nil:
			continue
		case ctx.Err() != nil:
			fmt.Fprintf(r.cfg.Out, "\nInterrupted in step %d. What the demo started is being stopped; what it got so far is in %s\n", i+1, r.dir)
			return context.Cause(ctx)
		}
		r.story.bad("%v", err)
		fmt.Fprintf(r.cfg.Out, "\nFAILED in step %d: %s.\n  what it got so far and its own log: %s\n", i+1, s.title, r.dir)
		if r.stack.Logs != "" {
			fmt.Fprintf(r.cfg.Out, "  logs of the stack: %s\n", r.stack.Logs)
		}
		return ErrFailed
	}
	return nil
}

// tidy ends everything that this run started, the last first, also after an
// interrupt.
func (r *run) tidy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	var errs []error
	for _, fn := range slices.Backward(r.after) {
		if err := fn(ctx); err != nil {
			r.log.Error("tidy up", "error", err)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (r *run) later(fn func(context.Context) error) { r.after = append(r.after, fn) }

// until asks again and again until it is so, for a bounded time.
func until(ctx context.Context, within time.Duration, what string, ask func() (bool, error)) error {
	end := time.NewTimer(within)
	defer end.Stop()
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
		case <-end.C:
			return fmt.Errorf("%s: not within %s", what, within)
		case <-tick.C:
		}
	}
}
