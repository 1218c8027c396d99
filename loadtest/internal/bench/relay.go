package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"google.golang.org/grpc"

	"github.com/openova-io/bp-relay/loadtest/internal/apiload/relay"
)

// relayProcess is a `relay-dev up` process in front of the lab's LiveKit and
// SeaweedFS, with a connection to its API that has all permissions.
type relayProcess struct {
	*relay.Instance
	conn *grpc.ClientConn
}

// startRelay runs a relay on the data in dir and waits until it is ready.
func (l *Lab) startRelay(ctx context.Context, dir string, flags ...string) (*relayProcess, error) {
	args, err := l.parts(ctx)
	if err != nil {
		return nil, err
	}
	p := new(relayProcess)
	p.Instance, err = relay.Start(ctx, relay.InstanceConfig{Program: l.cfg.RelayDev, Dir: dir, Args: append(args, flags...)})
	if err != nil {
		return nil, err
	}
	if p.conn, err = p.Target("developer").Dial(); err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	return p, nil
}

// parts returns the flags that name the lab's servers.
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
	secrets := map[string]string{"livekit-secret": lk.Secret, "s3-secret": s3.SecretKey}
	for name, value := range secrets {
		path := filepath.Join(l.dir, name) // every user sees a command line
		if err := os.WriteFile(path, []byte(value), 0o600); err != nil {
			return nil, err
		}
		secrets[name] = "file:" + path
	}
	return []string{
		"--livekit.url", lk.URL, "--livekit.key", lk.Key, "--livekit.secret", secrets["livekit-secret"],
		"--livekit.media", fmt.Sprintf("127.0.0.1:%d-%d", lk.UDPPort, lk.UDPPort),
		"--blob.endpoint", s3.Endpoint, "--blob.access_key", s3.AccessKey, "--blob.secret_key", secrets["s3-secret"],
		"--guacd.address", guacd.Address,
	}, nil
}

// kill ends the relay with SIGKILL, like the loss of its machine.
func (p *relayProcess) kill() error { return errors.Join(p.hangUp(), p.Kill()) }

// stop closes the connection and stops the relay. Stopping twice is allowed.
func (p *relayProcess) stop() error { return errors.Join(p.hangUp(), p.Stop()) }

func (p *relayProcess) hangUp() error {
	if p.conn == nil {
		return nil
	}
	conn := p.conn
	p.conn = nil
	return conn.Close()
}
