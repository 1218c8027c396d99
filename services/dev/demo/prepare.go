package demo

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	evidencev1 "github.com/openova-io/bp-relay/gen/relay/evidence/v1"

	"github.com/openova-io/bp-relay/services/dev/part"
	"github.com/openova-io/bp-relay/services/dev/stack"
)

// prepare finds or starts a stack, obtains the tools, and starts an sshd.
func (r *run) prepare(ctx context.Context) error {
	if err := r.obtain(ctx); err != nil {
		return err
	}
	var err error
	if r.stack, err = r.cfg.Stack(ctx, r.cfg.Out); err != nil {
		return err
	}
	if r.stack.Stop != nil {
		r.later(func(context.Context) error { return r.stack.Stop(r.failed) })
	}
	if r.api, err = dial(r.stack); err != nil {
		return err
	}
	r.later(func(context.Context) error { return r.api.conn.Close() })
	r.story.ok("%s; gRPC at %s", r.stack.About, r.stack.API)

	if err := r.startSSHD(ctx); err != nil {
		return err
	}
	return r.learnKey(ctx)
}

func (r *run) obtain(ctx context.Context) error {
	parts, err := part.Named(part.FFmpeg, part.SSHD)
	if err != nil {
		return err
	}
	printer := part.NewPrinter(r.cfg.Out)
	defer printer.Close()
	r.tools, err = part.Obtainer{Progress: printer.Missing}.Obtain(ctx, parts)
	return err
}

// startSSHD starts a private sshd. Its folder is a temporary one, because it holds
// keys, and the run's folder is kept.
func (r *run) startSSHD(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "bp-relay-demo-sshd-")
	if err != nil {
		return err
	}
	ports := new(stack.Ports)
	r.later(func(context.Context) error {
		ports.Release()
		return os.RemoveAll(dir)
	})
	env := &stack.Env{Dir: dir, Tools: r.tools, Ports: ports, Logger: r.log}
	r.sshd, err = env.StartSSHD(ctx, stack.SSHDConfig{})
	if err != nil {
		return err
	}
	r.later(func(context.Context) error { return r.sshd.Stop() })
	r.story.ok("a private sshd at %s:%d accepts %s with a new key; it allows ssh-rsa, which guacd 1.3 needs and no sshd of today allows by itself",
		r.sshd.Host, r.sshd.Port, r.sshd.User)
	return nil
}

// learnKey saves the evidence log's public key before anything is recorded: a key
// that comes with the evidence proves nothing.
func (r *run) learnKey(ctx context.Context) error {
	var answer *evidencev1.GetCheckpointResponse
	err := until(ctx, 20*time.Second, "a first checkpoint of the evidence log", func() (bool, error) {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		var err error
		answer, err = r.api.evidence.GetCheckpoint(r.api.as(ctx, auditor), &evidencev1.GetCheckpointRequest{Parent: r.org()})
		return answer.GetVerifierKey() != "", err
	})
	if err != nil {
		return err
	}
	r.logKey = answer.GetVerifierKey()
	if err := os.WriteFile(r.file(keyFile), []byte(r.logKey+"\n"), 0o600); err != nil {
		return err
	}
	r.story.ok("the auditor saves the evidence log's public key before anything is recorded: %s", r.logKey)
	return nil
}

// keyFile holds the log's public key.
const keyFile = "log.vkey"

func (r *run) org() string { return "orgs/" + r.stack.Org }

func (r *run) mediaDir() (string, error) {
	if r.cfg.Media != "" {
		return r.cfg.Media, nil
	}
	cache, err := part.CacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(cache, "media"), nil
}

// tool returns the path of an obtained program.
func (r *run) tool(name string) (string, error) {
	if path := r.tools[name]; path != "" {
		return path, nil
	}
	return "", fmt.Errorf("%s was not obtained", name)
}
