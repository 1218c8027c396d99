package part

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// securityFile stands beside a root folder and says whether Debian's security
// updates are in it.
const securityFile = "security"

// secured is the content of securityFile if they are.
const secured = "security updates installed\n"

// secure installs the security updates of the root folder's release, from the
// security archive that this machine's apt uses. For a release past its end
// those are the last ones. Without such an archive the root folder is usable,
// and says so.
func (r *rootFS) secure(ctx context.Context, dir, suite string, w *work) error {
	said := secured
	if err := r.upgrade(ctx, filepath.Join(dir, "root"), suite, w); err != nil {
		if ctx.Err() != nil {
			return err
		}
		said = "security updates: " + err.Error() + "\n"
		if _, err := w.log.WriteString(said); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, securityFile), []byte(said), 0o644)
}

// upgrade runs apt-get in the root folder. Expired indexes are accepted, as they
// are all that a release past its end has; their signatures are checked. A package
// that the archive names and no longer has stays as it is, and is an error after
// all others are installed.
func (r *rootFS) upgrade(ctx context.Context, root, suite string, w *work) error {
	security := aptMirror(ctx, "/debian-security")
	if security == "" {
		return errors.New("apt on this machine knows no archive that ends in /debian-security")
	}
	list := filepath.Join(root, "etc/apt/sources.list.d/security.list")
	if err := os.WriteFile(list, fmt.Appendf(nil, "deb %s %s-security main\n", security, suite), 0o644); err != nil {
		return err
	}
	// No server starts in the folder: see invoke-rc.d(8).
	if err := os.WriteFile(filepath.Join(root, policyPath), []byte(policyBody), 0o755); err != nil {
		return err
	}
	w.doing("security updates: reading the package lists")
	if err := w.run(ctx, aptIn(ctx, root, "update"), nil); err != nil {
		return fmt.Errorf("apt-get update: %w", err)
	}
	w.doing("security updates: installing")
	failed := w.run(ctx, aptIn(ctx, root, "upgrade", "-y", "--no-install-recommends", "--fix-missing"), nil)
	var left []string
	err := w.run(ctx, aptIn(ctx, root, "--simulate", "upgrade"), func(line string) bool {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "Inst" {
			left = append(left, f[1])
		}
		return true
	})
	if err == nil && len(left) > 0 {
		return fmt.Errorf("not to be had for %s", strings.Join(left, ", "))
	}
	return errors.Join(err, failed)
}

// aptIn prepares apt-get in a root folder, with the proc file system that some
// packages' scripts need.
func aptIn(ctx context.Context, root string, args ...string) *exec.Cmd {
	script := `root=$1; shift; mount -t proc proc "$root/proc" && exec chroot "$root" apt-get -o Acquire::Check-Valid-Until=false -o Dpkg::Options::=--force-confold "$@"`
	cmd := forAll(ctx, "/bin/sh", append([]string{"-c", script, "sh", root}, args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS} // the mount ends with it
	return cmd
}

// Insecure returns why the root folder has no security updates, or "". The folder
// is one of [Tools].
func Insecure(root string) string {
	said, err := os.ReadFile(filepath.Join(filepath.Dir(root), securityFile))
	if err != nil {
		return "security updates: " + err.Error()
	}
	if string(said) == secured {
		return ""
	}
	return strings.TrimSpace(string(said))
}
