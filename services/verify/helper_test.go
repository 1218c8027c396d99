package verify_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/blob/s3"
	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
	"github.com/openova-io/bp-relay/services/evidence/evidencetest"
	"github.com/openova-io/bp-relay/services/format/bag"
	"github.com/openova-io/bp-relay/services/format/manifest"
	"github.com/openova-io/bp-relay/services/verify"
)

var shared stacktest.Shared

func TestMain(m *testing.M) { os.Exit(shared.Run(m)) }

// fixture is two bags of one installation, made once: a log on SQLite that is
// published to a real SeaweedFS.
type fixture struct {
	key  string
	a, b []byte // tars
	// older is a signed checkpoint from before a was exported.
	older []byte
}

var fix struct {
	sync.Mutex
	*fixture
}

func bags(t testing.TB) *fixture {
	t.Helper()
	fix.Lock()
	defer fix.Unlock()
	if fix.fixture == nil {
		r := rig(t, 11)
		f := &fixture{key: r.Ledger.VerifierKey()}
		rec := r.Record(t, "0198-a", []string{"audio", "video"}, 4, 3000)
		r.Fill(t, 20)
		cp, err := r.Ledger.Checkpoint(t.Context())
		require.NoError(t, err)
		f.older = cp.Note
		f.a = r.Export(t, rec)
		f.b = r.Export(t, r.Record(t, "0198-b", []string{"audio", "video"}, 4, 3000))
		fix.fixture = f
	}
	return fix.fixture
}

func rig(t testing.TB, seed byte) *evidencetest.Rig {
	t.Helper()
	srv := shared.SeaweedFS(t)
	b, err := s3.New(s3.Config{Endpoint: srv.Endpoint, AccessKey: srv.AccessKey, SecretKey: srv.SecretKey, Region: srv.Region})
	require.NoError(t, err)
	r := evidencetest.New(t, seed, b, nil)
	r.Run(t)
	return r
}

// entry is a file of a tar.
type entry struct {
	name string // without the top folder
	body []byte
}

func unpack(t testing.TB, archive []byte) (base string, mtime int64, files []entry) {
	t.Helper()
	tr := tar.NewReader(bytes.NewReader(archive))
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return base, mtime, files
		}
		require.NoError(t, err)
		body, err := io.ReadAll(tr)
		require.NoError(t, err)
		var name string
		base, name, _ = strings.Cut(h.Name, "/")
		mtime = h.ModTime.Unix()
		files = append(files, entry{name, body})
	}
}

func pack(t testing.TB, base string, mtime int64, files []entry) []byte {
	t.Helper()
	var out bytes.Buffer
	tw := tar.NewWriter(&out)
	for _, f := range files {
		require.NoError(t, tw.WriteHeader(bag.Header(base, f.name, int64(len(f.body)), mtime)))
		_, err := tw.Write(f.body)
		require.NoError(t, err)
	}
	require.NoError(t, tw.Close())
	return out.Bytes()
}

// relist lists the files anew, as a clever forger would.
func relist(files []entry) []entry {
	var lists [2]bytes.Buffer
	for _, want := range []bool{true, false} {
		for i, f := range files {
			if f.name == bag.PayloadSums && !want {
				files[i].body = lists[0].Bytes()
			}
			if payload := strings.HasPrefix(f.name, "data/"); payload == want && f.name != bag.TagSums && f.name != bag.Signature {
				n := 1
				if payload {
					n = 0
				}
				lists[n].WriteString(bag.SumLine(manifest.SHA256(files[i].body), f.name))
			}
		}
	}
	for i, f := range files {
		if f.name == bag.TagSums {
			files[i].body = lists[1].Bytes()
		}
	}
	return files
}

func at(t testing.TB, files []entry, name string) int {
	t.Helper()
	i := slices.IndexFunc(files, func(f entry) bool { return f.name == name })
	require.GreaterOrEqual(t, i, 0, "no %s", name)
	return i
}

func folder(t testing.TB, base string, files []entry) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), base)
	for _, f := range files {
		path := filepath.Join(dir, filepath.FromSlash(f.name))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, f.body, 0o600))
	}
	return dir
}

// check verifies a tar from a pipe.
func check(t testing.TB, archive []byte, key string) verify.Report {
	t.Helper()
	r, err := verify.Verify(t.Context(), verify.Config{Bag: "-", Stdin: bytes.NewReader(archive), Key: key})
	require.NoError(t, err)
	return r
}

func has(r verify.Report, code verify.Code, file string) bool {
	return slices.ContainsFunc(r.Findings, func(f verify.Finding) bool {
		return f.Code == code && (file == "" || f.File == file)
	})
}

// about reports whether a finding names the file.
func about(r verify.Report, file string) bool {
	return slices.ContainsFunc(r.Findings, func(f verify.Finding) bool {
		return f.File == file || strings.Contains(f.What, file)
	})
}

func text(r verify.Report) string {
	var b strings.Builder
	if err := r.WriteText(&b); err != nil {
		return err.Error()
	}
	return b.String()
}
