package verify_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/evidence/bag"
	"github.com/openova-io/bp-relay/services/evidence/verify"
)

func TestNamesThatLeadOutOfTheBagAreRefused(t *testing.T) {
	f := bags(t)
	base, mtime, files := unpack(t, f.a)
	for _, name := range []string{"../../etc/passwd", "data/../../x", "~root", "a\\b", "c:x", "data/a\nb"} {
		r := check(t, pack(t, base, mtime, append(slices.Clone(files), entry{name: name, body: []byte("x")})), f.key)
		require.True(t, has(r, verify.BagName, ""), "%q: %s", name, text(r))
	}
	dir := folder(t, files)
	require.NoError(t, os.Symlink("/etc/passwd", filepath.Join(dir, "data", "link")))
	r, err := verify.Verify(t.Context(), verify.Config{Bag: dir, Key: f.key})
	require.NoError(t, err)
	require.True(t, has(r, verify.BagName, "data/link"), text(r))
}

// What nobody signed may say anything: it is reported, and nothing breaks.
func TestHostileManifestsAreOnlyReported(t *testing.T) {
	f := bags(t)
	base, mtime, files := unpack(t, f.a)
	i := at(t, files, bag.ManifestPath("0198-a"))
	var env struct {
		PayloadType string            `json:"payloadType"`
		Payload     []byte            `json:"payload"`
		Signatures  []json.RawMessage `json:"signatures"`
	}
	require.NoError(t, json.Unmarshal(files[i].body, &env))
	honest := string(env.Payload)
	for what, edit := range map[string]func(string) string{
		"negative length":  func(s string) string { return strings.ReplaceAll(s, `"pt_len":300`, `"pt_len":-300`) },
		"huge length":      func(s string) string { return strings.ReplaceAll(s, `"pt_len":300`, `"pt_len":922337203685477`) },
		"path in a stream": func(s string) string { return strings.ReplaceAll(s, `"name":"audio"`, `"name":"../../x"`) },
		"path in a hash":   func(s string) string { return strings.Replace(s, `"ct_sha256":"`, `"ct_sha256":"../`, 1) },
		"another capture":  func(s string) string { return strings.ReplaceAll(s, "captures/0198-a", "captures/0198-z") },
		"no streams":       func(string) string { return `{"predicate":{"capture":"orgs/acme/captures/0198-a"}}` },
		"not a statement":  func(string) string { return `[]` },
		"last record cut": func(s string) string {
			var st map[string]any
			require.NoError(t, json.Unmarshal([]byte(s), &st))
			v := st["predicate"].(map[string]any)["streams"].([]any)[1].(map[string]any)
			segs := v["segments"].([]any)
			v["segments"] = segs[:len(segs)-1]
			out, err := json.Marshal(st)
			require.NoError(t, err)
			return string(out)
		},
	} {
		changed := edit(honest)
		require.NotEqual(t, honest, changed, what)
		env.Payload = []byte(changed)
		bad := slices.Clone(files)
		var err error
		bad[i].body, err = json.Marshal(env)
		require.NoError(t, err)
		r := check(t, pack(t, base, mtime, relist(bad)), f.key)
		require.True(t, has(r, verify.CaptureSignature, files[i].name), "%s: %s", what, text(r))
		if what == "last record cut" {
			require.True(t, has(r, verify.CaptureChain, files[i].name), text(r))
			require.True(t, has(r, verify.CaptureSealed, files[i].name), text(r))
			require.True(t, has(r, verify.SegmentAdded, ""), text(r))
		}
	}
}

func TestASparseFileIsNotUnpacked(t *testing.T) {
	f := bags(t)
	var out bytes.Buffer
	tw := tar.NewWriter(&out)
	require.NoError(t, tw.WriteHeader(&tar.Header{Name: "b/bagit.txt", Typeflag: tar.TypeReg, Mode: 0o644, Size: 512, PAXRecords: map[string]string{"RELAY.x": "GNU.sparse"}}))
	_, err := tw.Write(make([]byte, 512))
	require.NoError(t, err)
	require.NoError(t, tw.Close())
	// tar.Writer does not write sparse files: rename the record, as long.
	text1 := bytes.Replace(out.Bytes(), []byte("RELAY.x=GNU.sparse"), []byte("GNU.sparse.major=1"), 1)
	r := check(t, text1, f.key)
	require.False(t, r.OK)
	require.Less(t, r.Bytes, int64(1024))
}

func TestVerifyingEndsWithItsContext(t *testing.T) {
	f := bags(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := verify.Verify(ctx, verify.Config{Bag: "-", Stdin: bytes.NewReader(f.a), Key: f.key})
	require.ErrorIs(t, err, context.Canceled)
	_, err = verify.Verify(t.Context(), verify.Config{Bag: "-", Key: f.key})
	require.ErrorIs(t, err, verify.ErrUnreadable)
}

func TestReportsCannotSteerATerminal(t *testing.T) {
	r := verify.Report{Findings: []verify.Finding{{Code: verify.BagName, File: "a\x1b[2Jb", What: "x\r\n\u009by"}}}
	require.NotContains(t, text(r), "\x1b")
	require.NotContains(t, text(r), "\r")
	require.Equal(t, 1, r.ExitCode())
	require.Equal(t, 2, strings.Count(text(r), fmt.Sprintln()[:1])-2)
}
