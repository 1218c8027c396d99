package demo

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	evidencev1 "github.com/openova-io/bp-relay/gen/relay/evidence/v1"

	"github.com/openova-io/bp-relay/services/local"
)

// prepare gets a stack, the tools that judge it, and a host with sshd.
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
	parts, err := local.Parts(local.PartFFmpeg, local.PartSSHD)
	if err != nil {
		return err
	}
	printer := local.NewPrinter(r.cfg.Out)
	defer printer.Close()
	found := func(e local.Event) { // what is there already is no news
		if e.Stage != local.StageFound {
			printer.Report(e)
		}
	}
	r.tools, err = local.Obtainer{Progress: found}.Obtain(ctx, parts)
	return err
}

// startSSHD runs a private sshd. Its folder is below the system's own
// temporary one: it holds keys, and the run's folder is kept.
func (r *run) startSSHD(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "bp-relay-demo-sshd-")
	if err != nil {
		return err
	}
	ports := new(local.Ports)
	r.later(func(context.Context) error {
		ports.Release()
		return os.RemoveAll(dir)
	})
	env := &local.Env{Dir: dir, Tools: r.tools, Ports: ports, Logger: r.log}
	r.sshd, err = env.StartSSHD(ctx, local.SSHDConfig{})
	if err != nil {
		return err
	}
	r.later(func(context.Context) error { return r.sshd.Stop() })
	r.story.ok("a private sshd at %s:%d lets in %s, with a key made just now", r.sshd.Host, r.sshd.Port, r.sshd.User)
	return nil
}

// learnKey gets the evidence log's public key before anything is recorded: a
// key that comes with the evidence would prove nothing.
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
	r.story.ok("the auditor keeps the evidence log's public key before anything is recorded: %s", r.logKey)
	return nil
}

// keyFile holds the log's public key.
const keyFile = "log.vkey"

func (r *run) org() string { return "orgs/" + r.stack.Org }

func (r *run) mediaDir() (string, error) {
	if r.cfg.Media != "" {
		return r.cfg.Media, nil
	}
	cache, err := local.CacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(cache, "media"), nil
}

// tool runs one of the obtained programs.
func (r *run) tool(name string) (string, error) {
	if path := r.tools[name]; path != "" {
		return path, nil
	}
	return "", fmt.Errorf("%s was not obtained", name)
}
