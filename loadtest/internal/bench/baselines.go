package bench

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/gofrs/flock"

	"github.com/openova-io/bp-relay/loadtest/internal/child"
	"github.com/openova-io/bp-relay/services/dev/part"
)

// guacBroker is github.com/wwt/guac, built from deploy/local/bench-guac.
func (l *Lab) guacBroker(ctx context.Context) *broker {
	b := &broker{name: "wwt/guac"}
	program, err := l.build(ctx, "bench-guac")
	if err != nil {
		b.absent = fmt.Errorf("wwt/guac could not be built: %w", err)
		return b
	}
	b.start = func(ctx context.Context, address string) (*child.Child, entry, error) {
		var at string
		p, err := child.Start(ctx, "wwt/guac", []string{program, address}, &at)
		return p, entry{ws: "ws://" + at + "/"}, err
	}
	return b
}

// build builds a baseline's module of deploy/local, outside the workspace.
func (l *Lab) build(ctx context.Context, module string) (string, error) {
	deploy, err := part.FindDeploy(".")
	if err != nil {
		return "", err
	}
	program := filepath.Join(l.dir, module)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", program, ".")
	cmd.Dir = filepath.Join(deploy, module)
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=readonly -buildvcs=false", "CGO_ENABLED=0")
	if _, err := finish(ctx, cmd); err != nil {
		return "", err
	}
	return program, nil
}

// liteBroker is guacamole-lite on node.
func (l *Lab) liteBroker(ctx context.Context) *broker {
	b := &broker{name: "guacamole-lite"}
	script, modules, err := nodeModules(ctx, "bench-guacamole-lite")
	if err != nil {
		b.absent = err
		return b
	}
	b.start = func(ctx context.Context, address string) (*child.Child, entry, error) {
		var at struct{ Address, Token string }
		p, err := child.Start(ctx, "guacamole-lite", []string{"node", script, modules, address}, &at)
		return p, entry{ws: "ws://" + at.Address + "/?token=" + url.QueryEscape(at.Token)}, err
	}
	return b
}

// nodeModules installs the packages that a folder of deploy/local pins in its
// package-lock.json into the user's cache, once.
func nodeModules(ctx context.Context, name string) (script, modules string, err error) {
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			return "", "", fmt.Errorf("%s is not installed (apt-get install nodejs npm)", tool)
		}
	}
	deploy, err := part.FindDeploy(".")
	if err != nil {
		return "", "", err
	}
	cache, err := part.CacheDir()
	if err != nil {
		return "", "", err
	}
	src := filepath.Join(deploy, name)
	lockFile, err := os.ReadFile(filepath.Join(src, "package-lock.json"))
	if err != nil {
		return "", "", fmt.Errorf("pins of %s: %w", name, err)
	}
	sum := sha256.Sum256(lockFile)
	modules = filepath.Join(cache, name, hex.EncodeToString(sum[:6]))
	script = filepath.Join(src, "server.js")
	if err := os.MkdirAll(filepath.Dir(modules), 0o755); err != nil {
		return "", "", fmt.Errorf("install %s: %w", name, err)
	}
	lock := flock.New(modules + ".lock")
	if err := lock.Lock(); err != nil {
		return "", "", fmt.Errorf("install %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if _, err := os.Stat(modules); err == nil {
		return script, modules, nil
	}
	return script, modules, install(ctx, src, modules)
}

// install runs npm in a temporary folder and renames it, so that an interrupted
// run leaves no incomplete folder.
func install(ctx context.Context, src, to string) (err error) {
	tmp, err := os.MkdirTemp(filepath.Dir(to), "tmp-")
	if err != nil {
		return fmt.Errorf("npm: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	for _, name := range []string{"package.json", "package-lock.json"} {
		raw, err := os.ReadFile(filepath.Join(src, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(tmp, name), raw, 0o644)
		}
		if err != nil {
			return fmt.Errorf("npm: %w", err)
		}
	}
	cmd := exec.CommandContext(ctx, "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	cmd.Dir = tmp
	if _, err := finish(ctx, cmd); err != nil {
		return err
	}
	if err := os.Rename(tmp, to); err != nil {
		return fmt.Errorf("npm: %w", err)
	}
	return nil
}
