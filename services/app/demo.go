package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/openova-io/bp-relay/services/demo"
	"github.com/openova-io/bp-relay/services/local"
	"github.com/openova-io/bp-relay/services/runfile"
)

// demoOrg is the organisation of everything that the demo makes.
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
with programs that know nothing of ours:

  1. finds the stack of "relay up" in this folder, or starts one of its own on
     free ports; starts a private sshd; keeps the evidence log's public key
  2. makes a room; two participants publish 720p VP8 and Opus, the second one
     through TURN only, and the candidate pairs are shown
  3. records the call, downloads every track, and has ffprobe and ffmpeg judge it
  4. opens a shell through the WebSocket tunnel, types a command and reads its
     output out of the desktop stream; draws the desktop to a picture
  5. terminates the session and compares its recording with what was received,
     byte for byte
  6. exports both recordings; "relay verify" accepts them, and names what is
     wrong with every altered copy

It takes about 15 s more than the recording, and minutes the first time, when
parts have to be built. Everything it started is stopped at the end, also after
Ctrl-C. What it downloaded stays in a folder of its own.

Exit code 0: all of it held. 1: something did not; the step and the logs are
named. 130: interrupted.`,
		Example: `  relay demo
  relay demo --seconds 60
  relay demo --keep      # keeps the altered exports and a stack of its own, to look at`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s := demoStack{dir: dir, keep: keep}
			err := demo.Run(cmd.Context(), demo.Config{
				Stack: s.get, Seconds: seconds, Dir: filepath.Join(dir, "demo"), Keep: keep, Out: cmd.OutOrStdout(),
			})
			switch {
			case errors.Is(err, demo.ErrFailed):
				return ErrExit(1)
			case err != nil && cmd.Context().Err() != nil:
				return ErrExit(130)
			}
			return err
		},
	}
	f := cmd.Flags()
	f.IntVar(&seconds, "seconds", 20, "how long the call is recorded, 2 to 600")
	f.BoolVar(&keep, "keep", false, "keep what is removed otherwise: altered exports, the room, the connection, the folder of a stack of its own")
	f.StringVar(&dir, "dir", ".local", "folder of relay up; results go to demo/ in it")
	return cmd
}

// demoStack finds the running stack or starts one.
type demoStack struct {
	dir  string
	keep bool
}

func (d demoStack) get(ctx context.Context, out io.Writer) (demo.Stack, error) {
	run, err := runfile.Find(ctx, d.dir)
	switch {
	case err == nil:
		return d.stack(run, fmt.Sprintf("the stack of relay up is running (pid %d)", run.PID), filepath.Join(d.dir, "logs")+" and the terminal of relay up", nil), nil
	case !errors.Is(err, runfile.ErrNone):
		return demo.Stack{}, err
	}
	return d.start(ctx, out)
}

func (d demoStack) stack(run Running, about, logs string, stop func(bool) error) demo.Stack {
	return demo.Stack{
		API: run.API, Org: demoOrg, About: about, Logs: logs, Stop: stop,
		Token: func(subject string, roles ...string) (string, error) { return run.Token(demoOrg, subject, roles...) },
	}
}

// start runs a stack of the demo's own until it is stopped. It outlives ctx,
// so that the demo can tidy up through it; while it starts, ctx ends it.
func (d demoStack) start(ctx context.Context, out io.Writer) (demo.Stack, error) {
	began := time.Now()
	if err := d.obtain(ctx, out); err != nil {
		return demo.Stack{}, err
	}
	if err := os.MkdirAll(d.dir, 0o755); err != nil {
		return demo.Stack{}, err
	}
	dir, err := os.MkdirTemp(d.dir, "demo-stack-")
	if err != nil {
		return demo.Stack{}, err
	}
	log, err := os.Create(filepath.Join(dir, "relay.log"))
	if err != nil {
		return demo.Stack{}, err
	}
	cfg := Default()
	cfg.LiveKit.URL, cfg.Guacd.Address, cfg.Turn.Gateway = "", "", "default"
	cfg.Data, cfg.logs = filepath.Join(dir, "data"), log
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ready, ended := make(chan Running, 1), make(chan error, 1)
	go func() {
		ended <- Up(own, cfg, upOptions{dir: dir, freePorts: true}, io.Discard, func(r Running) { ready <- r })
	}()
	stop := func(failed bool) error {
		cancel()
		err := <-ended
		if errors.Is(err, context.Canceled) { // our own word, while it started
			err = nil
		}
		err = errors.Join(err, log.Close())
		if err == nil && !failed && !d.keep {
			err = os.RemoveAll(dir)
		}
		return err
	}
	fmt.Fprintln(out, "  … nothing runs here yet: starting a stack of the demo's own")
	select {
	case run := <-ready:
		about := fmt.Sprintf("a stack of the demo's own, ready after %.1f s: LiveKit, SeaweedFS, guacd, STUNner and relay", time.Since(began).Seconds())
		return d.stack(run, about, filepath.Join(dir, "logs")+" and "+log.Name(), stop), nil
	case err := <-ended:
		ended <- nil
		return demo.Stack{}, errors.Join(fmt.Errorf("start a stack: %w; its logs are in %s", err, dir), stop(true))
	case <-ctx.Done():
		return demo.Stack{}, errors.Join(context.Cause(ctx), stop(false))
	}
}

// obtain gets the parts first, which may take minutes, and tells of it.
func (d demoStack) obtain(ctx context.Context, out io.Writer) error {
	parts, err := local.Parts(local.PartSeaweedFS, local.PartLiveKit, local.PartGuacd, local.PartStunner)
	if err != nil {
		return err
	}
	printer := local.NewPrinter(out)
	defer printer.Close()
	_, err = local.Obtainer{Progress: func(e local.Event) {
		if e.Stage != local.StageFound {
			printer.Report(e)
		}
	}}.Obtain(ctx, parts)
	return err
}
