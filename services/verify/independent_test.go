package verify_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/gofrs/flock"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/format/bag"
)

// bagitVersion is the Library of Congress's validator, from PyPI.
const bagitVersion = "1.9.0"

// bagit returns the Python that has the validator, installed once into the
// user's cache folder.
func bagit(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	require.NoError(t, err)
	dir := filepath.Join(cache, "bp-relay", "bagit-"+bagitVersion)
	require.NoError(t, os.MkdirAll(dir, 0o755))
	lock := flock.New(dir + ".lock")
	require.NoError(t, lock.Lock())
	defer func() { require.NoError(t, lock.Unlock()) }()
	python := filepath.Join(dir, "bin", "python")
	if exec.Command(python, "-c", "import bagit").Run() == nil {
		return python
	}
	if out, err := exec.Command("python3", "-m", "venv", dir).CombinedOutput(); err != nil {
		t.Skipf("python3 with venv is missing (apt-get install python3-venv): %v %s", err, out)
	}
	if out, err := exec.Command(python, "-m", "pip", "install", "-q", "bagit=="+bagitVersion).CombinedOutput(); err != nil {
		t.Skipf("PyPI's bagit %s cannot be installed: %v %s", bagitVersion, err, out)
	}
	return python
}

// An independent validator accepts the bag, and notices a changed file.
func TestAnIndependentValidatorAgrees(t *testing.T) {
	python := bagit(t)
	base, _, files := unpack(t, bags(t).a)
	dir := folder(t, base, files)
	out, err := exec.Command(python, "-m", "bagit", "--validate", dir).CombinedOutput()
	require.NoError(t, err, "%s", out)
	report := filepath.Join(dir, bag.Report)
	body, err := os.ReadFile(report)
	require.NoError(t, err)
	require.Contains(t, string(body), "&lt;b&gt;orgs/acme/rooms/r&lt;/b&gt;", "names are escaped")
	body[100] ^= 1
	require.NoError(t, os.WriteFile(report, body, 0o600))
	out, err = exec.Command(python, "-m", "bagit", "--validate", dir).CombinedOutput()
	require.Error(t, err, "%s", out)
}

// Plain sha256sum accepts it, too.
func TestSha256sumAgrees(t *testing.T) {
	base, _, files := unpack(t, bags(t).a)
	dir := folder(t, base, files)
	for _, list := range []string{bag.PayloadSums, bag.TagSums} {
		cmd := exec.Command("sha256sum", "--strict", "--quiet", "-c", list)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
}
