package part

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEditMustFitOnce(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.go")
	require.NoError(t, os.WriteFile(path, []byte("one two two"), 0o444))
	require.ErrorContains(t, edit{File: "a.go", Old: "two", New: "x"}.apply(dir), "occurs 2 times")
	require.ErrorContains(t, edit{File: "a.go", Old: "three", New: "x"}.apply(dir), "occurs 0 times")
	require.NoError(t, edit{File: "a.go", Old: "one", New: "1"}.apply(dir))
	body, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "1 two two", string(body))
}

func TestPackageList(t *testing.T) {
	dir := t.TempDir()
	list := func(body string) (string, []string, error) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "list"), []byte(body), 0o644))
		return (&rootFS{o: Obtainer{Deploy: dir}, part: Part{RootFS: &RootFS{List: "list"}}}).list()
	}
	suite, packages, err := list("# why\nsuite bullseye\nguacd # the server\n\nlibguac-client-ssh0\n")
	require.NoError(t, err)
	require.Equal(t, "bullseye", suite)
	require.Equal(t, []string{"guacd", "libguac-client-ssh0"}, packages)
	for _, bad := range []string{"", "suite bullseye\n", "guacd\n", "suite bullseye\n--help\n", "suite bullseye\na b\n", "suite $(id)\nguacd\n"} {
		_, _, err := list(bad)
		require.Error(t, err, bad)
	}
}
