package part

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/openova-io/bp-relay/services/dev/process"
)

// program builds a program of this repository. The go command knows what is
// up to date, so it is asked each time.
type program struct {
	o        Obtainer
	p        Program
	packages int
}

func (b *program) root() string { return filepath.Dir(filepath.Dir(b.o.Deploy)) }

func (b *program) find(context.Context) (Tools, bool, error) {
	return nil, exists(filepath.Join(b.root(), b.p.Path)), nil
}

// atLeast is about how long the go command takes for a program whose packages
// are all in its build cache.
const atLeast = 20 * time.Second

// cost is about how long building takes, if it takes cold with an empty build
// cache.
func (b *program) cost(ctx context.Context, cold time.Duration) time.Duration {
	if cold <= atLeast {
		return cold
	}
	return max(atLeast, time.Duration(b.uncached(ctx)*float64(cold)))
}

// uncached returns the share of the program's packages, 0 to 1, that are not in
// Go's build cache: 1 if modules must be downloaded first.
func (b *program) uncached(ctx context.Context) float64 {
	cmd, err := b.command(ctx, append([]string{"list", "-deps", "-f", "{{.Stale}}"}, b.flags()...)...)
	if err != nil {
		return 1
	}
	cmd.Env = append(cmd.Env, "GOPROXY=off")
	out, err := process.Output(ctx, cmd)
	if err != nil {
		return 1
	}
	return float64(strings.Count(out, "true")) / float64(max(1, strings.Count(out, "\n")))
}

func (b *program) lock() string { return "" }
func (b *program) stage() Stage { return StageBuilding }
func (b *program) clean()       {}

// flags leave out the symbol table and DWARF: stack traces and pprof need
// neither.
func (b *program) flags() []string { return []string{"-trimpath", "-ldflags=-s -w"} }

func (b *program) command(ctx context.Context, args ...string) (*exec.Cmd, error) {
	cmd, err := goCommand(ctx, append(args, b.p.Package)...)
	if err != nil {
		return nil, err
	}
	cmd.Dir = b.root()
	cmd.Env = os.Environ()
	if b.p.Static {
		cmd.Env = append(cmd.Env, "CGO_ENABLED=0")
	}
	return cmd, nil
}

func (b *program) fetch(ctx context.Context, w *work) error {
	cmd, err := b.command(ctx, append([]string{"list", "-deps"}, b.flags()...)...)
	if err != nil {
		return err
	}
	b.packages, err = listPackages(ctx, cmd, w)
	return err
}

func (b *program) make(ctx context.Context, w *work) error {
	cmd, err := b.command(ctx, append([]string{"build", "-v", "-o", b.p.Path}, b.flags()...)...)
	if err != nil {
		return err
	}
	if err := w.run(ctx, cmd, compiled(w, b.packages)); err != nil {
		return fmt.Errorf("go build %s: %w", b.p.Package, err)
	}
	return nil
}
