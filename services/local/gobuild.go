package local

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// buildFlags are part of the fingerprint. The binaries need no C library and
// hold no path of this machine, so a cache serves every clone.
var buildFlags = [...]string{"-mod=readonly", "-trimpath", "-ldflags=-s -w"}

// goBuild builds the binaries of one module of deploy/local.
type goBuild struct {
	o Obtainer
	m GoModule
}

// edit is one change to a third-party source file, made at build time through
// `go build -overlay`: see deploy/local/*/overlay.json. Old must occur exactly
// once, so that another version cannot be changed by accident.
type edit struct {
	Module string // module path
	File   string // below the module's folder
	Old    string
	New    string
	Why    string
}

func (b goBuild) dir() string { return filepath.Join(b.o.Deploy, b.m.Dir) }

func (b goBuild) fingerprint(ctx context.Context) (string, error) {
	version, err := b.goTool(ctx, "env", "GOVERSION", "GOOS", "GOARCH")
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s%q%q", version, buildFlags, slices.Sorted(maps.Values(b.m.Binaries)))
	for _, name := range []string{"go.mod", "go.sum", "overlay.json"} {
		body, err := os.ReadFile(filepath.Join(b.dir(), name))
		if errors.Is(err, fs.ErrNotExist) && name != "go.mod" {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("read the pins: %w", err)
		}
		fmt.Fprintf(h, "%s %d\n%s", name, len(body), body)
	}
	return hex.EncodeToString(h.Sum(nil))[:12], nil
}

func (b goBuild) make(ctx context.Context, dir string, log *os.File) error {
	flags := slices.Clone(buildFlags[:])
	overlay, err := b.overlay(ctx, filepath.Join(dir, "overlay"))
	if err != nil {
		return err
	}
	if overlay != "" {
		flags = append(flags, "-overlay="+overlay)
	}
	bin := filepath.Join(dir, "bin")
	for _, name := range slices.Sorted(maps.Keys(b.m.Binaries)) {
		args := append([]string{"build"}, flags...)
		args = append(args, "-o", filepath.Join(bin, name), b.m.Binaries[name])
		cmd, err := b.command(args...)
		if err != nil {
			return err
		}
		if err := runLogged(ctx, cmd, log); err != nil {
			return fmt.Errorf("go build %s: %w", name, err)
		}
	}
	return nil
}

func (b goBuild) tools(dir string) Tools {
	t := Tools{}
	for name := range b.m.Binaries {
		t[name] = filepath.Join(dir, "bin", name)
	}
	return t
}

// overlay writes the changed copies of the files that overlay.json names and
// returns the file for -overlay, or "" where the module has no overlay.json.
func (b goBuild) overlay(ctx context.Context, dir string) (string, error) {
	body, err := os.ReadFile(filepath.Join(b.dir(), "overlay.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the overlay: %w", err)
	}
	var edits []edit
	if err := json.Unmarshal(body, &edits); err != nil {
		return "", fmt.Errorf("read overlay.json of %s: %w", b.m.Dir, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make the overlay: %w", err)
	}
	replace := map[string]string{}
	for i, e := range edits {
		root, err := b.goTool(ctx, "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", e.Module)
		if err != nil {
			return "", err
		}
		if root = strings.TrimSpace(root); root == "" { // listed but not downloaded yet
			if _, err := b.goTool(ctx, "mod", "download", e.Module); err != nil {
				return "", err
			}
			if root, err = b.goTool(ctx, "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", e.Module); err != nil {
				return "", err
			}
			root = strings.TrimSpace(root)
		}
		path := filepath.Join(root, filepath.FromSlash(e.File))
		from := path
		if changed, ok := replace[path]; ok {
			from = changed
		}
		src, err := os.ReadFile(from)
		if err != nil {
			return "", fmt.Errorf("make the overlay: %w", err)
		}
		if n := bytes.Count(src, []byte(e.Old)); n != 1 {
			return "", fmt.Errorf("overlay.json of %s: %q occurs %d times in %s, want 1: the pinned version changed", b.m.Dir, e.Old, n, e.File)
		}
		to := filepath.Join(dir, fmt.Sprintf("%d-%s", i, filepath.Base(e.File)))
		if err := os.WriteFile(to, bytes.Replace(src, []byte(e.Old), []byte(e.New), 1), 0o644); err != nil {
			return "", fmt.Errorf("make the overlay: %w", err)
		}
		replace[path] = to
	}
	out, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", fmt.Errorf("make the overlay: %w", err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, out, 0o644); err != nil {
		return "", fmt.Errorf("make the overlay: %w", err)
	}
	return file, nil
}

// command prepares the go tool in the module's folder, outside any workspace
// and with the caller's flags left out, so that only the pins decide.
func (b goBuild) command(args ...string) (*exec.Cmd, error) {
	path, err := exec.LookPath("go")
	if err != nil {
		path = "/usr/local/go/bin/go"
		if !exists(path) {
			return nil, errors.New("the go command is not on PATH: install Go 1.26 or newer")
		}
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = b.dir()
	cmd.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	return cmd, nil
}

func (b goBuild) goTool(ctx context.Context, args ...string) (string, error) {
	cmd, err := b.command(args...)
	if err != nil {
		return "", err
	}
	return output(ctx, cmd)
}
