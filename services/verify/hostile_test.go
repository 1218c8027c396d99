package verify_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/format/bag"
	"github.com/openova-io/bp-relay/services/format/manifest"
	"github.com/openova-io/bp-relay/services/format/printable"
	"github.com/openova-io/bp-relay/services/verify"
)

func TestNamesThatLeadOutOfTheBagAreRefused(t *testing.T) {
	f := bags(t)
	base, mtime, files := unpack(t, f.a)
	for _, name := range []string{"../../etc/passwd", "data/../../x", "~root", "a\\b", "c:x", "data/a\nb"} {
		r := check(t, pack(t, base, mtime, append(slices.Clone(files), entry{name: name, body: []byte("x")})), f.key)
		require.True(t, has(r, verify.BagName, ""), "%q: %s", name, text(r))
	}
	dir := folder(t, base, files)
	require.NoError(t, os.Symlink("/etc/passwd", filepath.Join(dir, "data", "link")))
	r, err := verify.Verify(t.Context(), verify.Config{Bag: dir, Key: f.key})
	require.NoError(t, err)
	require.True(t, has(r, verify.BagName, "data/link"), text(r))
}

// Unsigned content may be anything: it is reported, and nothing breaks.
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
		require.True(t, has(r, verify.CaptureSealed, files[i].name), "%s: %s", what, text(r))
		require.False(t, has(r, verify.CaptureChain, ""), "%s: it is not interpreted: %s", what, text(r))
		require.Empty(t, r.Capture, what)
		require.Empty(t, r.Gaps, what)
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
	require.Contains(t, text(r), `a\x1b[2Jb: x\r\n\u009by`)
}

// fakes are texts that would fake a verdict if they were shown as they are.
func fakes() []string {
	return []string{"x\nOK: nothing was changed", "\x1b[2J\x1b[HOK: nothing was changed", "\rOK: nothing", "\u202egnihton :KO", "\u009b2JOK: ", "a\u200b\u2028OK: "}
}

// An installation whose people and recorders choose hostile names and reasons:
// the report has its own lines only, and the page nothing that acts.
func TestTextsOfOthersCannotFakeTheVerdict(t *testing.T) {
	r := rig(t, 15)
	for i, fake := range fakes() {
		rec := r.Forge(t, fmt.Sprintf("fake-%d", i), []string{"audio"}, 2, 100, func(m *manifest.Manifest) {
			m.Owner, m.Actor, m.Mode, m.Abandoned, m.Clock.Source = "orgs/acme/recordings/"+fake, fake, fake, fake, fake
			m.Attributes = map[string]string{"k" + fake: fake}
			m.Streams[0].Gaps = append(m.Streams[0].Gaps, manifest.Gap{From: m.Start, Reason: fake})
		})
		archive := r.Export(t, rec)
		got := check(t, archive, r.Ledger.VerifierKey())
		require.True(t, has(got, verify.CaptureContradiction, ""), text(got)) // its entries say otherwise
		shown := text(got)
		lines := strings.Split(strings.TrimSuffix(shown, "\n"), "\n")
		require.True(t, strings.HasPrefix(lines[0], "FAILED: "), shown)
		require.Equal(t, lines[0], lines[len(lines)-1], "the verdict is the first and the last line")
		for _, l := range lines[1 : len(lines)-1] {
			require.Regexp(t, `^(exported|capture|owner|recorded|clock|abandoned|target|log|checked|gap|WRONG) +[^ ]`, l)
		}
		_, _, files := unpack(t, archive)
		for _, text := range []string{shown, string(files[at(t, files, bag.Report)].body)} {
			for _, c := range text {
				require.True(t, c == '\n' || printable.Safe(c), "%q in %q", c, text)
			}
		}
	}
}

// A manifest that nothing proves is not shown at all.
func TestWhatIsNotProvenIsNotShown(t *testing.T) {
	f := bags(t)
	base, mtime, files := unpack(t, f.a)
	i := at(t, files, bag.ManifestPath("0198-a"))
	m := manifest.Manifest{V: 1, Capture: "orgs/acme/captures/0198-a", Owner: "a forged owner", Mode: "a forged mode"}
	forger := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{9}, 32))
	var err error
	files[i].body, err = manifest.Sign(m, forger)
	require.NoError(t, err)
	r := check(t, pack(t, base, mtime, relist(files)), f.key)
	require.NotContains(t, text(r), "forged")
	require.Contains(t, text(r), "\ncapture   not proven\n")
	out, err := json.Marshal(r)
	require.NoError(t, err)
	require.NotContains(t, string(out), "forged")
}
