package part

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// debian finds a part's binaries on this machine, or installs its packages if
// this process is root.
type debian struct {
	o    Obtainer
	part Part
}

func (d *debian) find(context.Context) (Tools, bool, error) {
	t := Tools{}
	for name, patterns := range d.part.Debian.Binaries {
		for _, pattern := range patterns {
			if found, _ := filepath.Glob(pattern); len(found) > 0 {
				t[name] = found[len(found)-1]
				break
			}
		}
		if t[name] == "" {
			return nil, false, nil
		}
	}
	return t, true, nil
}

func (d *debian) lock() string                       { return "apt.lock" }
func (d *debian) stage() Stage                       { return StageInstalling }
func (d *debian) fetch(context.Context, *work) error { return nil }
func (d *debian) clean()                             {}

// make runs apt-get. Once begun it runs to its end, since a package manager
// that is killed leaves the machine half installed: ctx is looked at only
// before.
func (d *debian) make(ctx context.Context, w *work) error {
	apt, err := exec.LookPath("apt-get")
	if err != nil || os.Geteuid() != 0 {
		return &MissingError{Part: d.part.Name, Packages: d.part.Debian.Packages}
	}
	restore, err := noServices()
	if err != nil {
		return err
	}
	defer restore()
	env := append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C")
	for _, args := range [][]string{
		{"update"},
		append([]string{"-o", "DPkg::Lock::Timeout=300", "-o", "APT::Status-Fd=1", "install", "-y", "--no-install-recommends"}, d.part.Debian.Packages...),
	} {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if args[0] == "update" {
			w.doing("reading the package lists")
		}
		whole := context.WithoutCancel(ctx)
		cmd := forAll(whole, apt, args...)
		cmd.Env = env
		if err := w.run(whole, cmd, aptStatus(w)); err != nil {
			return fmt.Errorf("apt-get %s: %w", strings.Join(args, " "), err)
		}
	}
	if _, ok, _ := d.find(ctx); !ok {
		return errors.New("installed, but its programs are not where they should be")
	}
	return nil
}

// forAll prepares a command whose files every user may read: this process may
// have a mask that closes its own.
func forAll(ctx context.Context, program string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", `umask 022; exec "$@"`, "sh", program}, args...)...)
}

// aptStatus reads the lines that APT::Status-Fd asks for, "dlstatus:item:percent:text"
// and "pmstatus:package:percent:text", and keeps them out of the log. See
// README.progress-reporting in the apt package.
func aptStatus(w *work) func(string) bool {
	return func(line string) bool {
		kind, rest, _ := strings.Cut(line, ":")
		what := map[string]string{"dlstatus": "downloading", "pmstatus": "installing"}[kind]
		if what == "" {
			return true
		}
		if f := strings.SplitN(rest, ":", 3); len(f) == 3 {
			percent, _, _ := strings.Cut(f[1], ".")
			w.doing(what + " " + percent + " %")
		}
		return false
	}
}

// policyPath is the script that Debian's packages ask before they start a
// service; this one says no. See invoke-rc.d(8).
const (
	policyPath = "/usr/sbin/policy-rc.d"
	policyBody = "#!/bin/sh\n# made by bp-relay while it installs packages: no service starts\nexit 101\n"
)

// noServices keeps packages that are being installed from starting the
// machine's own sshd, PostgreSQL or Redis: private ones are started instead. A
// policy of somebody else is left as it is.
func noServices() (restore func(), err error) {
	if old, err := os.ReadFile(policyPath); err == nil && string(old) != policyBody {
		return func() {}, nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read %s: %w", policyPath, err)
	}
	if err := os.WriteFile(policyPath, []byte(policyBody), 0o755); err != nil {
		return nil, fmt.Errorf("keep services from starting: %w", err)
	}
	return func() { _ = os.Remove(policyPath) }, nil
}
