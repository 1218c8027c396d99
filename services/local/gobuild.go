package local

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

// buildFlags are part of the fingerprint. The binaries need no C library and
// hold no path of this machine, so a cache serves every clone.
var buildFlags = [...]string{"-mod=readonly", "-trimpath", "-ldflags=-s -w"}

// goBuild builds the binaries of one module of deploy/local.
type goBuild struct {
	o Obtainer
	m GoModule
}

func (b goBuild) dir() string { return filepath.Join(b.o.Deploy, b.m.Dir) }

func (b goBuild) fingerprint(ctx context.Context) (string, error) {
	version, err := b.goTool(ctx, "env", "GOVERSION", "GOOS", "GOARCH")
	if err != nil {
		return "", err
	}
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%s%q%q", version, buildFlags, slices.Sorted(maps.Values(b.m.Binaries)))
	for _, name := range []string{"go.mod", "go.sum", "edits.json"} {
		body, err := os.ReadFile(filepath.Join(b.dir(), name))
		if errors.Is(err, fs.ErrNotExist) && name != "go.mod" {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("read the pins: %w", err)
		}
		_, _ = fmt.Fprintf(h, "%s %d\n%s", name, len(body), body)
	}
	return hex.EncodeToString(h.Sum(nil))[:12], nil
}

func (b goBuild) make(ctx context.Context, dir string, log *os.File) error {
	flags := slices.Clone(buildFlags[:])
	src := filepath.Join(dir, "src")
	modfile, err := b.edited(ctx, src)
	if err != nil {
		return err
	}
	if modfile != "" {
		flags = append(flags, "-modfile="+modfile)
	}
	bin := filepath.Join(dir, "bin")
	for _, name := range slices.Sorted(maps.Keys(b.m.Binaries)) {
		args := append([]string{"build"}, flags...)
		args = append(args, "-o", filepath.Join(bin, name), b.m.Binaries[name])
		cmd, err := b.command(ctx, args...)
		if err != nil {
			return err
		}
		if err := runLogged(ctx, cmd, log); err != nil {
			return fmt.Errorf("go build %s: %w", name, err)
		}
	}
	return os.RemoveAll(src)
}

func (b goBuild) tools(dir string) Tools {
	t := Tools{}
	for name := range b.m.Binaries {
		t[name] = filepath.Join(dir, "bin", name)
	}
	return t
}

// command prepares the go tool in the module's folder, outside any workspace
// and with the caller's flags left out, so that only the pins decide.
func (b goBuild) command(ctx context.Context, args ...string) (*exec.Cmd, error) {
	path, err := exec.LookPath("go")
	if err != nil {
		path = "/usr/local/go/bin/go"
		if !exists(path) {
			return nil, errors.New("the go command is not on PATH: install Go 1.26 or newer")
		}
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = b.dir()
	cmd.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	return cmd, nil
}

func (b goBuild) goTool(ctx context.Context, args ...string) (string, error) {
	cmd, err := b.command(ctx, args...)
	if err != nil {
		return "", err
	}
	return output(ctx, cmd)
}
