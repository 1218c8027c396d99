package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/openova-io/bp-relay/services/app"
	"github.com/openova-io/bp-relay/services/dev/demo"
	"github.com/openova-io/bp-relay/services/dev/part"
	"github.com/openova-io/bp-relay/services/dev/runfile"
)

// demoOrg is the organisation of everything that the demo creates.
const demoOrg = "acme"

func demoCommand() *cobra.Command {
	var seconds int
	var keep bool
	var dir string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show the main job end to end, on real media and a real shell",
		Long: `demo does, through the public API of a running stack, what an application
backend, a person with a browser and an auditor would do, and checks each result
with independent programs:

  1. finds the stack of "relay-dev up" in this folder, or starts its own on free
     ports; starts a private sshd; saves the evidence log's public key
  2. creates a room; two participants publish 720p VP8 and Opus, the second one
     through TURN only; prints the candidate pairs
  3. records the call, downloads every track, and checks it with ffprobe and ffmpeg
  4. opens a shell through the WebSocket tunnel, types a command and reads its
     output from the desktop stream; draws the desktop to a picture
  5. terminates the session and compares its recording, byte for byte, with what
     the browser received
  6. exports both recordings; "relay verify" accepts them, and names what is wrong
     with every altered copy

It takes about 15 s more than the recording; the first time, minutes, while the
parts are built. It stops everything that it started, also after Ctrl-C. Its
results stay in a folder of their own.

Exit code 0: every check passed. 1: a check failed; the output names the step and
the logs. 130: interrupted.`,
		Example: `  relay-dev demo
  relay-dev demo --seconds 60
  relay-dev demo --keep      # keeps the altered exports and the demo's own stack`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s := demoStack{dir: dir, keep: keep}
			err := demo.Run(cmd.Context(), demo.Config{
				Stack: s.get, Seconds: seconds, Dir: filepath.Join(dir, "demo"), Keep: keep, Out: cmd.OutOrStdout(),
			})
			switch {
			case errors.Is(err, demo.ErrFailed):
				return app.ErrExit(1)
			case err != nil && cmd.Context().Err() != nil:
				return app.ErrExit(130)
			}
			return err
		},
	}
	f := cmd.Flags()
	f.IntVar(&seconds, "seconds", 20, "duration of the recording, 2 to 600")
	f.BoolVar(&keep, "keep", false, "keep what would be removed: altered exports, the room, the connection, the folder of the demo's own stack")
	f.StringVar(&dir, "dir", ".local", "folder of relay-dev up; results go to demo/ in it")
	return cmd
}

// demoStack finds the running stack or starts the demo's own.
type demoStack struct {
	dir  string
	keep bool
}

func (d demoStack) get(ctx context.Context, out io.Writer) (demo.Relay, error) {
	run, err := runfile.Find(ctx, d.dir)
	switch {
	case err == nil:
		return d.stack(run, fmt.Sprintf("the stack of relay-dev up is running (pid %d)", run.PID), filepath.Join(d.dir, "logs")+" and the terminal of relay-dev up", nil), nil
	case !errors.Is(err, runfile.ErrNone):
		return demo.Relay{}, err
	}
	return d.start(ctx, out)
}

func (d demoStack) stack(run runfile.Running, about, logs string, stop func(bool) error) demo.Relay {
	return demo.Relay{
		API: run.API, Org: demoOrg, About: about, Logs: logs, Stop: stop,
		Token: func(subject string, roles ...string) (string, error) { return run.Token(demoOrg, subject, roles...) },
	}
}

// start starts the demo's own stack, which runs until it is stopped. It outlives
// ctx, so that the demo can clean up through it; but ctx ends the start.
func (d demoStack) start(ctx context.Context, out io.Writer) (demo.Relay, error) {
	began := time.Now()
	if err := d.obtain(ctx, out); err != nil {
		return demo.Relay{}, err
	}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return demo.Relay{}, err
	}
	dir, err := os.MkdirTemp(d.dir, "demo-stack-")
	if err != nil {
		return demo.Relay{}, err
	}
	log, err := os.Create(filepath.Join(dir, "relay.log"))
	if err != nil {
		return demo.Relay{}, err
	}
	cfg := upDefault(dir)
	cfg.Log.Level = app.Default().Log.Level
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ready, ended := make(chan runfile.Running, 1), make(chan error, 1)
	go func() {
		ended <- up(own, cfg, upOptions{dir: dir, freePorts: true}, upOutput{out: io.Discard, logs: log, ready: func(r runfile.Running) { ready <- r }})
	}()
	stop := func(failed bool) error {
		cancel()
		err := <-ended
		if errors.Is(err, context.Canceled) { // stop was called while it started
			err = nil
		}
		err = errors.Join(err, log.Close())
		if err == nil && !failed && !d.keep {
			err = os.RemoveAll(dir)
		}
		return err
	}
	fmt.Fprintln(out, "  … no stack runs here: starting the demo's own")
	select {
	case run := <-ready:
		about := fmt.Sprintf("the demo's own stack, ready after %.1f s: LiveKit, SeaweedFS, guacd, STUNner and relay", time.Since(began).Seconds())
		return d.stack(run, about, filepath.Join(dir, "logs")+" and "+log.Name(), stop), nil
	case err := <-ended:
		ended <- nil
		return demo.Relay{}, errors.Join(fmt.Errorf("start a stack: %w; its logs are in %s", err, dir), stop(true))
	case <-ctx.Done():
		return demo.Relay{}, errors.Join(context.Cause(ctx), stop(false))
	}
}

// obtain obtains the parts first, which may take minutes, and shows progress.
func (d demoStack) obtain(ctx context.Context, out io.Writer) error {
	parts, err := part.Named(part.SeaweedFS, part.LiveKit, part.Guacd, part.Stunner)
	if err != nil {
		return err
	}
	printer := part.NewPrinter(out)
	defer printer.Close()
	_, err = part.Obtainer{Progress: printer.Missing}.Obtain(ctx, parts)
	return err
}
