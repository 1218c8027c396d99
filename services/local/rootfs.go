package local

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
)

// rootFS makes a Debian root folder with debootstrap.
type rootFS struct {
	o    Obtainer
	part Part
}

// errNeedsRoot: debootstrap makes device files, and so refuses to run otherwise.
var errNeedsRoot = errors.New("making its root folder needs root: run as root, or name an existing guacd by its address")

// debianWord is the form of a suite's and of a package's name.
var debianWord = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]*$`)

// list reads the suite and the packages. A line is "suite NAME" or one
// package; # begins a comment.
func (r rootFS) list() (suite string, packages []string, err error) {
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
				return "", nil, fmt.Errorf("%s: %q is not a package's name", r.part.RootFS.List, w)
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
		return "", nil, fmt.Errorf("%s names no suite or no package", r.part.RootFS.List)
	}
	return suite, packages, nil
}

func (r rootFS) fingerprint(context.Context) (string, error) {
	suite, packages, err := r.list()
	if err != nil {
		return "", err
	}
	h := sha256.Sum256(fmt.Appendf(nil, "minbase %s %q %s", suite, packages, runtime.GOARCH))
	return hex.EncodeToString(h[:])[:12], nil
}

func (r rootFS) make(ctx context.Context, dir string, log *os.File) error {
	if os.Geteuid() != 0 {
		return errNeedsRoot
	}
	suite, packages, err := r.list()
	if err != nil {
		return err
	}
	tools, err := r.o.debian(ctx, debootstrap(), func(Stage, string) {})
	if err != nil {
		return err
	}
	// Packages that an interrupted run fetched are not fetched again.
	debs := filepath.Join(r.o.Cache, string(r.part.Name), "packages")
	if err := os.MkdirAll(debs, 0o755); err != nil {
		return err
	}
	root := filepath.Join(dir, "root")
	args := []string{"--variant=minbase", "--cache-dir=" + debs, "--include=" + strings.Join(packages, ","), suite, root}
	if m := aptMirror(ctx); m != "" {
		args = append(args, m)
	}
	cmd := exec.CommandContext(ctx, tools["debootstrap"], args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	// debootstrap mounts /proc in the folder. In a mount namespace of its own
	// the mount ends with it, however it ends.
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if err := runLogged(ctx, cmd, log); err != nil {
		return fmt.Errorf("debootstrap: %w", err)
	}
	if !exists(filepath.Join(root, "usr/sbin/guacd")) {
		return errors.New("debootstrap ended well but there is no guacd")
	}
	fetched, _ := filepath.Glob(filepath.Join(root, "var/cache/apt/archives/*.deb"))
	for _, f := range fetched {
		if err := os.Remove(f); err != nil {
			return err
		}
	}
	return os.RemoveAll(debs)
}

func (r rootFS) tools(dir string) Tools {
	return Tools{string(r.part.Name) + "-root": filepath.Join(dir, "root")}
}

// aptMirror returns the Debian archive that this machine's apt uses, or "" for
// debootstrap's default.
func aptMirror(ctx context.Context) string {
	out, err := output(ctx, exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian"))
	if err != nil {
		return ""
	}
	for uri := range strings.Lines(out) {
		uri = strings.TrimSuffix(strings.TrimSpace(uri), "/")
		if strings.HasPrefix(uri, "http") && strings.HasSuffix(uri, "/debian") {
			return uri
		}
	}
	return ""
}
