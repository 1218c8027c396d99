package part

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
	"strings"

	"github.com/openova-io/bp-relay/services/dev/process"
)

// buildFlags are part of the fingerprint. The binaries need no C library and
// hold no path of this machine, so a cache serves every clone.
var buildFlags = [...]string{"-mod=readonly", "-trimpath", "-ldflags=-s -w"}

// goBuild builds the binaries of one module of deploy/local.
type goBuild struct {
	o Obtainer
	m GoModule

	flags    []string // of go build, once fetched
	packages int      // how many the binaries consist of, once fetched
}

func (b *goBuild) dir() string { return filepath.Join(b.o.Deploy, b.m.Dir) }

func (b *goBuild) fingerprint(ctx context.Context) (string, error) {
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

func (b *goBuild) fetch(ctx context.Context, dir string, w *work) error {
	b.flags = slices.Clone(buildFlags[:])
	modfile, err := b.edited(ctx, filepath.Join(dir, "src"))
	if err != nil {
		return err
	}
	if modfile != "" {
		b.flags = append(b.flags, "-modfile="+modfile)
	}
	args := append([]string{"list", "-deps"}, b.flags...)
	cmd, err := b.command(ctx, append(args, slices.Sorted(maps.Values(b.m.Binaries))...)...)
	if err != nil {
		return err
	}
	b.packages, err = listPackages(ctx, cmd, w)
	return err
}

func (b *goBuild) make(ctx context.Context, dir string, w *work) error {
	bin := filepath.Join(dir, "bin")
	count := compiled(w, b.packages)
	for _, name := range slices.Sorted(maps.Keys(b.m.Binaries)) {
		args := append([]string{"build", "-v"}, b.flags...)
		args = append(args, "-o", filepath.Join(bin, name), b.m.Binaries[name])
		cmd, err := b.command(ctx, args...)
		if err != nil {
			return err
		}
		if err := w.run(ctx, cmd, count); err != nil {
			return fmt.Errorf("go build %s: %w", name, err)
		}
	}
	return os.RemoveAll(filepath.Join(dir, "src"))
}

func (b *goBuild) tools(dir string) Tools {
	t := Tools{}
	for name := range b.m.Binaries {
		t[name] = filepath.Join(dir, "bin", name)
	}
	return t
}

// command prepares the go tool in the module's folder, outside any workspace
// and with the caller's flags left out, so that only the pins decide.
func (b *goBuild) command(ctx context.Context, args ...string) (*exec.Cmd, error) {
	cmd, err := goCommand(ctx, args...)
	if err != nil {
		return nil, err
	}
	cmd.Dir = b.dir()
	cmd.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	return cmd, nil
}

func (b *goBuild) goTool(ctx context.Context, args ...string) (string, error) {
	cmd, err := b.command(ctx, args...)
	if err != nil {
		return "", err
	}
	return process.Output(ctx, cmd)
}

func goCommand(ctx context.Context, args ...string) (*exec.Cmd, error) {
	path, err := exec.LookPath("go")
	if err != nil {
		path = "/usr/local/go/bin/go"
		if !exists(path) {
			return nil, errors.New("the go command is not on PATH: install Go 1.26 or newer")
		}
	}
	return exec.CommandContext(ctx, path, args...), nil
}

// listPackages runs `go list -deps`, which downloads the modules that a build
// needs and compiles nothing, and counts the packages.
func listPackages(ctx context.Context, cmd *exec.Cmd, w *work) (packages int, err error) {
	modules := 0
	err = w.run(ctx, cmd, func(line string) bool {
		if isPackage(line) {
			packages++
			return false
		}
		if strings.HasPrefix(line, "go: downloading ") {
			modules++
			w.doing(fmt.Sprintf("module %d", modules))
		}
		return true
	})
	if err != nil {
		return 0, fmt.Errorf("go list: %w", err)
	}
	return packages, nil
}

// compiled counts the packages that `go build -v` names as it compiles them,
// of which there are at most total (0: unknown).
func compiled(w *work, total int) func(line string) bool {
	n := 0
	return func(line string) bool {
		if !isPackage(line) {
			return true
		}
		n++
		if n > total {
			w.doing(fmt.Sprintf("compiling, %d packages so far", n))
		} else {
			w.doing(fmt.Sprintf("compiling, %d of %d packages", n, total))
		}
		return false
	}
}

// isPackage reports whether a line of the go command's output is a package's
// path and nothing else.
func isPackage(line string) bool {
	return line != "" && !strings.ContainsAny(line, " \t:#$")
}
