package relay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// starts bounds how long a relay may need to be ready when nothing has to be
// built first, and stops how long to end.
const (
	starts = 2 * time.Minute
	stops  = 40 * time.Second
)

// devOrg is the organisation of the development tokens.
const devOrg = "acme"

// ProcessConfig says how a relay of one's own is run.
type ProcessConfig struct {
	// Program is the relay binary; bin/relay, as `make build` makes it, where
	// it is empty.
	Program string
	// Dir is a folder of its own for its data, logs and secrets.
	Dir string
	// Work is the folder it is started in, which must be inside the clone; ""
	// is this process's.
	Work string
	// Args are flags of `relay up` beside --dir and --free-ports: existing
	// parts (--livekit.url ...), --guacd.address, --turn.gateway=.
	Args []string
}

// Process is a `relay up`. It belongs to one goroutine, but for Ended.
type Process struct {
	cfg   ProcessConfig
	cmd   *exec.Cmd
	api   string
	log   *os.File
	ended chan struct{}
	err   error // of Wait; read after ended
}

// Start runs `relay up` and waits until it is ready. It dies with this
// process, whatever happens; its log is relay.log in the folder.
func Start(ctx context.Context, cfg ProcessConfig) (*Process, error) {
	if cfg.Program == "" {
		cfg.Program = filepath.Join("bin", "relay")
	}
	program, err := filepath.Abs(cfg.Program)
	if err == nil {
		cfg.Program = program
		_, err = os.Stat(program)
	}
	if err != nil {
		return nil, fmt.Errorf("relay: %w: build it with `make build`, or name the binary", err)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("relay: its folder: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(cfg.Dir, "relay.log"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("relay: its log: %w", err)
	}
	if err := os.Remove(filepath.Join(cfg.Dir, "running.json")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, errors.Join(fmt.Errorf("relay: its folder: %w", err), log.Close())
	}
	p := &Process{cfg: cfg, log: log, ended: make(chan struct{})}
	p.cmd = exec.Command(cfg.Program, append([]string{"up", "--dir", cfg.Dir, "--free-ports"}, cfg.Args...)...) //nolint:noctx // Stop ends it
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = cfg.Work, log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // the death signal comes when the thread that started the child ends
		defer close(p.ended)
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, errors.Join(fmt.Errorf("relay: start %s: %w", cfg.Program, err), log.Close())
	}
	if err := p.ready(ctx); err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	return p, nil
}

// ready waits until relay says in running.json that it runs.
func (p *Process) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, starts, fmt.Errorf("relay: not ready after %s", starts))
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var run struct {
			API string `json:"api"`
		}
		raw, err := os.ReadFile(filepath.Join(p.cfg.Dir, "running.json"))
		if err == nil && json.Unmarshal(raw, &run) == nil && run.API != "" {
			p.api = run.API
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("relay: it ended while starting: %w: %s", p.err, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("%w: %s", context.Cause(ctx), p.tail())
		case <-tick.C:
		}
	}
}

// tail is the end of its log.
func (p *Process) tail() string {
	raw, err := os.ReadFile(p.log.Name())
	if err != nil {
		return err.Error()
	}
	return string(bytes.TrimSpace(raw[max(0, len(raw)-2000):]))
}

// PID is its process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Ended is closed when it has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Target is its API, called in a person's name with a development token that
// may do everything in the organisation acme and holds for 24 h. The relay
// counts rates per person.
func (p *Process) Target(ctx context.Context, subject string) (Target, error) {
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, p.cfg.Program, "token", "--data", filepath.Join(p.cfg.Dir, "data"), "--api", p.api, "--org", devOrg, "--subject", subject, "--ttl", "24h")
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.cfg.Work, &out, &errs
	if err := cmd.Run(); err != nil {
		return Target{}, fmt.Errorf("relay: a development token: %w: %s", err, bytes.TrimSpace(errs.Bytes()))
	}
	token := strings.TrimSpace(out.String())
	return Target{Address: p.api, Org: devOrg, Token: func() (string, error) { return token, nil }}, nil
}

// Stop ends it with all its parts and waits for that. Stopping twice is
// allowed.
func (p *Process) Stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // an error: it has ended
	timer := time.NewTimer(stops)
	defer timer.Stop()
	select {
	case <-p.ended:
	case <-timer.C:
		_ = p.cmd.Process.Kill()
		<-p.ended
		return errors.Join(fmt.Errorf("relay: it did not stop within %s; its log is %s", stops, p.log.Name()), p.close())
	}
	return p.close()
}

func (p *Process) close() error {
	if err := p.log.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("relay: its log: %w", err)
	}
	return nil
}
