package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

// debian finds a part's binaries on this machine, or installs its packages
// where this process is root.
func (o Obtainer) debian(ctx context.Context, p Part, report func(Stage, string)) (Tools, error) {
	if t, ok := p.Debian.find(); ok {
		report(StageFound, "")
		return t, nil
	}
	missing := &MissingError{Part: p.Name, Packages: p.Debian.Packages}
	apt, err := exec.LookPath("apt-get")
	if err != nil || os.Geteuid() != 0 {
		return nil, missing
	}

	lock := flock.New(filepath.Join(o.Cache, "apt.lock"))
	if _, err := lock.TryLockContext(ctx, 200*time.Millisecond); err != nil {
		return nil, fmt.Errorf("%s: lock %s: %w", p.Name, lock.Path(), err)
	}
	defer func() { _ = lock.Close() }()
	if t, ok := p.Debian.find(); ok {
		report(StageFound, "")
		return t, nil
	}

	path := filepath.Join(o.Cache, "logs", string(p.Name)+".log")
	out, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.Name, err)
	}
	defer func() { _ = out.Close() }()
	report(StageInstalling, path)
	if err := install(ctx, apt, p.Debian.Packages, out); err != nil {
		return nil, &BuildError{Part: p.Name, Log: path, Last: lastLine(path, 0), Err: err}
	}
	t, ok := p.Debian.find()
	if !ok {
		return nil, &BuildError{Part: p.Name, Log: path, Last: lastLine(path, 0), Err: errors.New("installed, but its programs are not where they should be")}
	}
	report(StageMade, path)
	return t, nil
}

func (d *Debian) find() (Tools, bool) {
	t := Tools{}
	for name, patterns := range d.Binaries {
		for _, pattern := range patterns {
			if found, _ := filepath.Glob(pattern); len(found) > 0 {
				t[name] = found[len(found)-1]
				break
			}
		}
		if t[name] == "" {
			return nil, false
		}
	}
	return t, true
}

// install runs apt-get. Once begun it runs to its end, since a package manager
// that is killed leaves the machine half installed: the caller's context
// counts only before.
func install(ctx context.Context, apt string, packages []string, log *os.File) error {
	restore, err := noServices()
	if err != nil {
		return err
	}
	defer restore()
	env := append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C")
	for _, args := range [][]string{
		{"update"},
		append([]string{"-o", "DPkg::Lock::Timeout=300", "install", "-y", "--no-install-recommends"}, packages...),
	} {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		whole := context.WithoutCancel(ctx)
		cmd := exec.CommandContext(whole, apt, args...)
		cmd.Env = env
		if err := runLogged(whole, cmd, log); err != nil {
			return fmt.Errorf("apt-get %s: %w", args[0], err)
		}
	}
	return nil
}

// policyPath is the script that Debian's packages ask before they start a
// service; this one says no. See invoke-rc.d(8).
const (
	policyPath = "/usr/sbin/policy-rc.d"
	policyBody = "#!/bin/sh\n# made by bp-relay while it installs packages: no service starts\nexit 101\n"
)

// noServices keeps what is installed from starting the machine's own sshd,
// PostgreSQL or Redis: our private ones are started apart. A policy that is
// there already is left alone.
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
