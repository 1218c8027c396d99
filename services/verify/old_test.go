package verify_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/format/bag"
	"github.com/openova-io/bp-relay/services/verify"
)

// old returns a committed bag of bag.OldProfile, written by an older release,
// and its key: "rig", two streams of four segments, or "session", a real shell.
func old(t testing.TB, name string) (archive []byte, key string) {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name+".tar.gz"))
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	archive, err = io.ReadAll(z)
	require.NoError(t, err)
	vkey, err := os.ReadFile(filepath.Join("testdata", name+".vkey"))
	require.NoError(t, err)
	return archive, strings.TrimSpace(string(vkey))
}

// Bags of older releases must verify for ever, and what is wrong with them is
// still found.
func TestOldBagsStillVerify(t *testing.T) {
	for _, name := range []string{"rig", "session"} {
		archive, key := old(t, name)
		require.Contains(t, string(archive), bag.OldProfile)
		r := check(t, archive, key)
		require.True(t, r.OK, "%s: %s", name, text(r))
		base, mtime, files := unpack(t, archive)
		r, err := verify.Verify(t.Context(), verify.Config{Bag: folder(t, base, files), Key: key})
		require.NoError(t, err)
		require.True(t, r.OK, "%s: %s", name, text(r))
		for i, e := range files {
			bad := slices.Clone(files)
			bad[i].body = bytes.Clone(e.body)
			bad[i].body[len(e.body)/2] ^= 1
			r := check(t, pack(t, base, mtime, bad), key)
			require.True(t, about(r, e.name), "%s: %s: %s", name, e.name, text(r))
			if bag.Phase(e.name) != 11 && bag.Phase(e.name) != 12 { // listing anew would mend it
				require.False(t, check(t, pack(t, base, mtime, relist(bad)), key).OK, e.name)
			}
		}
	}
}

// What a bag says about itself is shown: of which time it is, who exported it,
// how it was recorded.
func TestTheReportShowsWhatJudgesABag(t *testing.T) {
	archive, key := old(t, "session")
	r := check(t, archive, key)
	require.NotNil(t, r.Exported)
	require.NotEmpty(t, r.Exported.By)
	require.Equal(t, "required", r.Mode)
	require.NotNil(t, r.Clock)
	shown := text(r)
	for _, want := range []string{
		"exported  " + r.Exported.Time.Format(time.RFC3339) + " by " + r.Exported.By, "started by " + r.Actor + ", mode required", "\nclock ",
	} {
		require.Contains(t, shown, want)
	}
}

// An older export verifies, and whoever wants a newer one asks for it.
func TestAnOlderBagIsJudgedByItsAge(t *testing.T) {
	f := bags(t)
	judged := func(archive, since []byte, most time.Duration) verify.Report {
		r, err := verify.Verify(t.Context(), verify.Config{Bag: "-", Stdin: bytes.NewReader(archive), Key: f.key, Since: since, NotOlderThan: most})
		require.NoError(t, err)
		return r
	}
	_, _, files := unpack(t, f.b)
	newer := files[at(t, files, bag.CheckpointTxt)].body

	require.Equal(t, verify.OK, judged(f.a, f.older, time.Hour).Verdict)
	require.Equal(t, verify.OK, judged(f.b, f.older, time.Hour).Verdict)
	r := judged(f.a, newer, 0)
	require.Equal(t, verify.Older, r.Verdict)
	require.Equal(t, 3, r.ExitCode())
	require.False(t, r.OK)
	require.Empty(t, r.Findings)
	require.True(t, strings.HasPrefix(text(r), "OLDER: "), text(r))
	require.Contains(t, text(r), "the checkpoint that you gave is later")

	r = judged(f.a, nil, time.Nanosecond)
	require.Equal(t, verify.Older, r.Verdict, text(r))
	require.Contains(t, text(r), "you asked for at most 1ns")

	archive, key := old(t, "session")
	_, err := verify.Verify(t.Context(), verify.Config{Bag: "-", Stdin: bytes.NewReader(archive), Key: key, Since: newer})
	require.ErrorIs(t, err, verify.ErrSince, "a checkpoint of another log")
	bad := bytes.Clone(f.a)
	bad[len(bad)/2] ^= 1
	require.Equal(t, verify.Failed, judged(bad, newer, time.Nanosecond).Verdict, "what is wrong comes first")
}

func TestTheFoldersNameIsChecked(t *testing.T) {
	f := bags(t)
	_, _, files := unpack(t, f.a)
	r, err := verify.Verify(t.Context(), verify.Config{Bag: folder(t, "evidence-of-another", files), Key: f.key})
	require.NoError(t, err)
	require.True(t, has(r, verify.BagName, "evidence-of-another"), text(r))
	require.Len(t, r.Findings, 1)
}

// A signature has one form: the other base64 alphabet is another file.
func TestASignatureHasOneForm(t *testing.T) {
	f := bags(t)
	base, mtime, files := unpack(t, f.a)
	for _, name := range []string{bag.ManifestPath("0198-a"), bag.Signature} {
		i := at(t, files, name)
		for what, change := range map[string]func([]byte) []byte{
			"URL-safe": func(b []byte) []byte {
				head, tail, _ := bytes.Cut(b, []byte(`"signatures"`))
				return append(append(bytes.Clone(head), `"signatures"`...), bytes.ReplaceAll(bytes.ReplaceAll(tail, []byte("+"), []byte("-")), []byte("/"), []byte("_"))...)
			},
			"spaces": func(b []byte) []byte { return bytes.Replace(b, []byte(`,"signatures"`), []byte(`, "signatures"`), 1) },
		} {
			bad := slices.Clone(files)
			bad[i].body = change(files[i].body)
			if bytes.Equal(files[i].body, bad[i].body) {
				continue // it has no such character; TestWhatIsRefused of dsse looks for one
			}
			r := check(t, pack(t, base, mtime, relist(bad)), f.key)
			require.True(t, has(r, verify.CaptureSignature, name) || has(r, verify.BagSignature, name), "%s %s: %s", name, what, text(r))
		}
	}
}
