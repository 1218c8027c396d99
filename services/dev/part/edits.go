package part

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// edit is one change to a third-party source file, made in a copy of its
// module at build time: see deploy/local/*/edits.json. Old must occur exactly
// once, so that an edit cannot change another version by accident.
type edit struct {
	Module string // module path
	File   string // below the module's folder
	Old    string
	New    string
	Why    string
}

// edited copies the modules that edits.json names into dir, changes them, and
// returns a go.mod there that replaces them; "" if the module has no
// edits.json. (The go command refuses overlays over its module cache.)
func (b *goBuild) edited(ctx context.Context, dir string) (string, error) {
	body, err := os.ReadFile(filepath.Join(b.dir(), "edits.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the edits: %w", err)
	}
	var edits []edit
	if err := json.Unmarshal(body, &edits); err != nil {
		return "", fmt.Errorf("read edits.json of %s: %w", b.m.Dir, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("edit sources: %w", err)
	}
	mod, err := os.ReadFile(filepath.Join(b.dir(), "go.mod"))
	if err != nil {
		return "", fmt.Errorf("edit sources: %w", err)
	}
	sum, err := os.ReadFile(filepath.Join(b.dir(), "go.sum"))
	if err != nil {
		return "", fmt.Errorf("edit sources: %w", err)
	}
	copies := map[string]string{}
	for _, e := range edits {
		if copies[e.Module] == "" {
			to := filepath.Join(dir, fmt.Sprintf("module%d", len(copies)))
			if err := b.copyModule(ctx, e.Module, to); err != nil {
				return "", fmt.Errorf("copy %s: %w", e.Module, err)
			}
			copies[e.Module] = to
			mod = fmt.Appendf(mod, "\nreplace %s => %s\n", e.Module, to)
		}
		if err := e.apply(copies[e.Module]); err != nil {
			return "", fmt.Errorf("edits.json of %s: %w", b.m.Dir, err)
		}
	}
	file := filepath.Join(dir, "go.mod")
	if err := os.WriteFile(file, mod, 0o644); err != nil {
		return "", fmt.Errorf("edit sources: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "go.sum"), sum, 0o644); err != nil {
		return "", fmt.Errorf("edit sources: %w", err)
	}
	return file, nil
}

// copyModule copies the module at its pinned version.
func (b *goBuild) copyModule(ctx context.Context, module, to string) error {
	if _, err := b.goTool(ctx, "mod", "download", module); err != nil {
		return err
	}
	root, err := b.goTool(ctx, "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", module)
	if err != nil {
		return err
	}
	return os.CopyFS(to, os.DirFS(strings.TrimSpace(root)))
}

func (e edit) apply(root string) error {
	path := filepath.Join(root, filepath.FromSlash(e.File))
	src, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if n := bytes.Count(src, []byte(e.Old)); n != 1 {
		return fmt.Errorf("%q occurs %d times in %s of %s, want 1: the pinned version changed", e.Old, n, e.File, e.Module)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		return err
	}
	return os.WriteFile(path, bytes.Replace(src, []byte(e.Old), []byte(e.New), 1), 0o644)
}
