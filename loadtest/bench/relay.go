package bench

import (
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

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

// relayStarts bounds how long a relay may need to be ready, and relayStops how
// long to end.
const (
	relayStarts = time.Minute
	relayStops  = 30 * time.Second
)

// relayProcess is a `relay up` in a process of its own, in front of the lab's
// LiveKit and SeaweedFS.
type relayProcess struct {
	cmd   *exec.Cmd
	dir   string
	api   string
	conn  *grpc.ClientConn
	log   *os.File
	ended chan struct{}
	err   error // of Wait; read after ended
}

// startRelay runs a relay over what dir holds and waits until it is ready.
func (l *Lab) startRelay(ctx context.Context, dir string, flags ...string) (*relayProcess, error) {
	args, err := l.parts(ctx)
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("relay's log: %w", err)
	}
	running := filepath.Join(dir, "running.json")
	if err := os.Remove(running); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, errors.Join(fmt.Errorf("relay's folder: %w", err), log.Close())
	}
	p := &relayProcess{dir: dir, log: log, ended: make(chan struct{})}
	p.cmd = exec.Command(l.cfg.Relay, append(append([]string{"up", "--dir", dir, "--free-ports"}, args...), flags...)...) //nolint:noctx // stop ends it
	p.cmd.Stdout, p.cmd.Stderr = log, log
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
		return nil, errors.Join(fmt.Errorf("start relay (make build): %w", err), log.Close())
	}
	if err := p.ready(ctx, running); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return p, p.dial(ctx, l.cfg.Relay)
}

// parts are the flags that name the lab's servers.
func (l *Lab) parts(ctx context.Context) ([]string, error) {
	lk, err := l.livekit(ctx)
	if err != nil {
		return nil, err
	}
	s3, err := l.seaweedfs(ctx)
	if err != nil {
		return nil, err
	}
	guacd, err := l.guacd(ctx)
	if err != nil {
		return nil, err
	}
	return []string{
		"--livekit.url", lk.URL, "--livekit.key", lk.Key, "--livekit.secret", lk.Secret,
		"--livekit.media", fmt.Sprintf("127.0.0.1:%d-%d", lk.UDPPort, lk.UDPPort),
		"--blob.endpoint", s3.Endpoint, "--blob.access_key", s3.AccessKey, "--blob.secret_key", s3.SecretKey,
		"--guacd.address", guacd.Address,
	}, nil
}

// ready waits until relay says that it runs.
func (p *relayProcess) ready(ctx context.Context, file string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, relayStarts, fmt.Errorf("relay was not ready after %s", relayStarts))
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		var run struct {
			API string `json:"api"`
		}
		raw, err := os.ReadFile(file)
		if err == nil && json.Unmarshal(raw, &run) == nil && run.API != "" {
			p.api = run.API
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("relay ended: %w: %s", p.err, p.lastLog())
		case <-ctx.Done():
			return fmt.Errorf("%w: %s", context.Cause(ctx), p.lastLog())
		case <-tick.C:
		}
	}
}

func (p *relayProcess) lastLog() string {
	raw, err := os.ReadFile(p.log.Name())
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(tail(raw))
}

// dial connects with a development token that may do everything.
func (p *relayProcess) dial(ctx context.Context, program string) error {
	f, err := run(ctx, program, "token", "--data", filepath.Join(p.dir, "data"), "--api", p.api)
	if err != nil {
		return errors.Join(err, p.stop())
	}
	token := "Bearer " + strings.TrimSpace(f.out)
	p.conn, err = grpc.NewClient(p.api, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, resp any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return invoke(metadata.AppendToOutgoingContext(ctx, "authorization", token), method, req, resp, cc, opts...)
		}),
		grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, stream grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			return stream(metadata.AppendToOutgoingContext(ctx, "authorization", token), desc, cc, method, opts...)
		}))
	if err != nil {
		return errors.Join(fmt.Errorf("connect to relay: %w", err), p.stop())
	}
	return nil
}

func (p *relayProcess) pid() int { return p.cmd.Process.Pid }

// kill ends it with SIGKILL, as a lost machine would.
func (p *relayProcess) kill() error {
	if err := p.cmd.Process.Kill(); err != nil {
		return fmt.Errorf("kill relay: %w", err)
	}
	<-p.ended
	return p.free()
}

// stop asks it to end.
func (p *relayProcess) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // an error: it has ended
	timer := time.NewTimer(relayStops)
	defer timer.Stop()
	select {
	case <-p.ended:
	case <-timer.C:
		_ = p.cmd.Process.Kill()
		<-p.ended
		return errors.Join(fmt.Errorf("relay did not stop within %s", relayStops), p.free())
	}
	return p.free()
}

func (p *relayProcess) free() error {
	var err error
	if p.conn != nil {
		err = p.conn.Close()
		p.conn = nil
	}
	return errors.Join(err, p.log.Close())
}
