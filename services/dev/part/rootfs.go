package part

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"

	"github.com/openova-io/bp-relay/services/dev/process"
)

// rootFS makes a Debian root folder with debootstrap.
type rootFS struct {
	o    Obtainer
	part Part

	program string // debootstrap, once fetched
}

// errNeedsRoot reports that debootstrap, which makes device files, cannot run.
var errNeedsRoot = errors.New("making its root folder needs root: run as root, or name an existing guacd by its address")

// debianWord matches the name of a suite and of a package.
var debianWord = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]*$`)

// list reads the suite and the packages. A line is "suite NAME" or one
// package; # begins a comment.
func (r *rootFS) list() (suite string, packages []string, err error) {
	f, err := os.Open(filepath.Join(r.o.Deploy, filepath.FromSlash(r.part.RootFS.List)))
	if err != nil {
		return "", nil, fmt.Errorf("read the package list: %w", err)
	}
	defer func() { _ = f.Close() }()
	s := bufio.NewScanner(f)
	for s.Scan() {
		line, _, _ := strings.Cut(s.Text(), "#")
		words := strings.Fields(line)
		for _, w := range words {
			if !debianWord.MatchString(w) {
				return "", nil, fmt.Errorf("%s: %q is not the name of a package", r.part.RootFS.List, w)
			}
		}
		switch {
		case len(words) == 0:
		case len(words) == 2 && words[0] == "suite":
			suite = words[1]
		case len(words) == 1:
			packages = append(packages, words[0])
		default:
			return "", nil, fmt.Errorf("%s: cannot read line %q", r.part.RootFS.List, s.Text())
		}
	}
	if err := s.Err(); err != nil {
		return "", nil, fmt.Errorf("read the package list: %w", err)
	}
	if suite == "" || len(packages) == 0 {
		return "", nil, fmt.Errorf("%s does not name a suite and a package", r.part.RootFS.List)
	}
	return suite, packages, nil
}

func (r *rootFS) fingerprint(context.Context) (string, error) {
	suite, packages, err := r.list()
	if err != nil {
		return "", err
	}
	h := sha256.Sum256(fmt.Appendf(nil, "minbase and security %s %q %s", suite, packages, runtime.GOARCH))
	return hex.EncodeToString(h[:])[:12], nil
}

// fetch installs debootstrap itself if it is missing, under apt's lock.
func (r *rootFS) fetch(ctx context.Context, _ string, w *work) error {
	d := &job{o: r.o, part: debootstrap(), maker: &debian{o: r.o, part: debootstrap()}}
	d.o.Progress = nil
	defer d.close()
	var err error
	if d.tools, _, err = d.maker.find(ctx); err != nil || d.tools != nil {
		r.program = d.tools["debootstrap"]
		return err
	}
	w.doing("installing debootstrap")
	if err := d.fetch(ctx); err != nil {
		return err
	}
	err = d.make(ctx)
	r.program = d.tools["debootstrap"]
	return err
}

func (r *rootFS) make(ctx context.Context, dir string, w *work) error {
	if os.Geteuid() != 0 {
		return errNeedsRoot
	}
	suite, packages, err := r.list()
	if err != nil {
		return err
	}
	// Packages that an interrupted run downloaded are not downloaded again.
	debs := filepath.Join(r.o.Cache, string(r.part.Name), "packages")
	if err := os.MkdirAll(debs, 0o755); err != nil {
		return err
	}
	root := filepath.Join(dir, "root")
	args := []string{"--variant=minbase", "--cache-dir=" + debs, "--include=" + strings.Join(packages, ","), suite, root}
	if m := aptMirror(ctx, "/debian"); m != "" {
		args = append(args, m)
	}
	cmd := forAll(ctx, r.program, args...) // guacd runs as another user in it
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	// debootstrap mounts /proc in the folder. In a mount namespace of its own
	// the mount disappears with it, even if it is killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if err := w.run(ctx, cmd, debootstrapSays(w)); err != nil {
		return fmt.Errorf("debootstrap: %w", err)
	}
	if !exists(filepath.Join(root, "usr/sbin/guacd")) {
		return errors.New("debootstrap succeeded, but there is no guacd")
	}
	if err := r.secure(ctx, dir, suite, w); err != nil {
		return err
	}
	fetched, _ := filepath.Glob(filepath.Join(root, "var/cache/apt/archives/*.deb"))
	for _, f := range fetched {
		if err := os.Remove(f); err != nil {
			return err
		}
	}
	return os.RemoveAll(debs)
}

func (r *rootFS) tools(dir string) Tools {
	return Tools{string(r.part.Name) + "-root": filepath.Join(dir, "root")}
}

// debootstrapSays reports debootstrap's lines, "I: Unpacking libc6...", with
// their number: about five for each package.
func debootstrapSays(w *work) func(string) bool {
	n := 0
	return func(line string) bool {
		if words, ok := strings.CutPrefix(line, "I: "); ok {
			n++
			w.doing(fmt.Sprintf("step %d, %s", n, strings.ToLower(strings.TrimRight(words, "."))))
		}
		return true
	}
}

// aptMirror returns the Debian archive that this machine's apt uses and whose
// address ends so; "" if there is none.
func aptMirror(ctx context.Context, end string) string {
	out, err := process.Output(ctx, exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"))
	if err != nil {
		return ""
	}
	for uri := range strings.Lines(out) {
		uri = strings.TrimSuffix(strings.TrimSpace(uri), "/")
		if strings.HasPrefix(uri, "http") && strings.HasSuffix(uri, end) {
			return uri
		}
	}
	return ""
}
