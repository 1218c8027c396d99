package verify_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/format/bag"
	"github.com/openova-io/bp-relay/services/format/manifest"
	"github.com/openova-io/bp-relay/services/verify"
)

func TestAnUntouchedBagIsOK(t *testing.T) {
	f := bags(t)
	for _, archive := range [][]byte{f.a, f.b} {
		r := check(t, archive, f.key)
		require.True(t, r.OK, text(r))
		require.Zero(t, r.ExitCode())
		require.Equal(t, 8, r.Segments)
		require.Equal(t, 2, r.Streams)
		require.Len(t, r.Gaps, 1, "a stated gap is reported, and no finding")
		require.Contains(t, text(r), "interrupted")
		require.GreaterOrEqual(t, r.Custody, 8)
	}
	path := filepath.Join(t.TempDir(), "bag.tar")
	require.NoError(t, os.WriteFile(path, f.a, 0o600))
	base, _, files := unpack(t, f.a)
	for _, where := range []string{path, folder(t, base, files)} {
		var last int64
		r, err := verify.Verify(t.Context(), verify.Config{Bag: where, Key: f.key, Progress: func(n int64) { last = n }})
		require.NoError(t, err)
		require.True(t, r.OK, text(r))
		require.Equal(t, r.Bytes, last)
	}
}

func TestWithoutTheKeyNothingIsJudged(t *testing.T) {
	f := bags(t)
	for _, key := range []string{"", "nonsense", f.key[:len(f.key)-5]} {
		_, err := verify.Verify(t.Context(), verify.Config{Bag: "-", Stdin: bytes.NewReader(f.a), Key: key})
		require.ErrorIs(t, err, verify.ErrNoKey)
		require.ErrorContains(t, err, "GetCheckpoint")
	}
	_, err := verify.Verify(t.Context(), verify.Config{Bag: filepath.Join(t.TempDir(), "none"), Key: f.key})
	require.ErrorIs(t, err, verify.ErrUnreadable)
}

// With another installation's key, even of the same origin, the bag fails: a key
// inside the bag does not count.
func TestAnotherKeyDoesNotOpenTheBag(t *testing.T) {
	f := bags(t)
	other := rig(t, 12)
	r := check(t, f.a, other.Ledger.VerifierKey())
	require.False(t, r.OK)
	require.True(t, has(r, verify.LogCheckpoint, bag.CheckpointTxt), text(r))
	require.True(t, has(r, verify.CaptureSignature, ""), text(r))
	require.True(t, has(r, verify.BagSignature, ""), text(r))
}

// A valid bag of a forger's own installation fails with our key, even with our
// public key in it.
func TestAForgersBagIsNotOurs(t *testing.T) {
	f := bags(t)
	forger := rig(t, 13)
	base, mtime, files := unpack(t, forger.Export(t, forger.Record(t, "0198-a", []string{"video"}, 2, 100)))
	files[at(t, files, bag.LogKey)].body = []byte(f.key + "\n")
	r := check(t, pack(t, base, mtime, relist(files)), f.key)
	require.True(t, has(r, verify.LogCheckpoint, bag.CheckpointTxt), text(r))
}

// Each file of the bag, a few bytes of each: every flip is found and the file
// is named.
func TestAnyFlippedByteOfAnyFileIsNamed(t *testing.T) {
	f := bags(t)
	base, mtime, files := unpack(t, f.a)
	rnd := rand.New(rand.NewPCG(1, 2))
	dir := folder(t, base, files)
	for i, e := range files {
		spots := []int{0, len(e.body) - 1, rnd.IntN(len(e.body)), rnd.IntN(len(e.body)), rnd.IntN(len(e.body))}
		for _, at := range spots {
			bad := slices.Clone(files)
			bad[i].body = bytes.Clone(e.body)
			bad[i].body[at] ^= 1 << rnd.IntN(8)
			r := check(t, pack(t, base, mtime, bad), f.key)
			require.False(t, r.OK, "%s byte %d of %d", e.name, at, len(e.body))
			require.True(t, about(r, e.name), "%s byte %d is not named: %s", e.name, at, text(r))

			path := filepath.Join(dir, e.name)
			require.NoError(t, os.WriteFile(path, bad[i].body, 0o600))
			r, err := verify.Verify(t.Context(), verify.Config{Bag: dir, Key: f.key})
			require.NoError(t, err)
			require.False(t, r.OK, "folder: %s byte %d", e.name, at)
			require.True(t, about(r, e.name), "folder: %s byte %d is not named: %s", e.name, at, text(r))
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, e.name), e.body, 0o600))
	}
}

// Any byte of the archive: contents, headers, padding, end mark.
func TestAnyFlippedByteOfTheArchiveIsFound(t *testing.T) {
	f := bags(t)
	n := 500
	if testing.Short() {
		n = 200
	}
	rnd := rand.New(rand.NewPCG(3, 4))
	bad := bytes.Clone(f.a)
	for range n {
		at, bit := rnd.IntN(len(bad)), byte(1)<<rnd.IntN(8)
		bad[at] ^= bit
		r := check(t, bad, f.key)
		require.False(t, r.OK, "byte %d of %d, bit %d, in %q", at, len(bad), bit, bad[max(0, at-40):min(len(bad), at+40)])
		require.NotEmpty(t, r.Findings[0].What)
		bad[at] ^= bit
	}
}

func TestAnyCutIsFound(t *testing.T) {
	f := bags(t)
	rnd := rand.New(rand.NewPCG(5, 6))
	cuts := []int{0, 1, 511, 512, 1024, len(f.a) - 1, len(f.a) - 512, len(f.a) - 1024, len(f.a) - 1025, len(f.a) - 2048}
	for range 200 {
		cuts = append(cuts, rnd.IntN(len(f.a)))
	}
	for _, n := range cuts {
		r := check(t, f.a[:n], f.key)
		require.False(t, r.OK, "cut at %d of %d", n, len(f.a))
		require.True(t, has(r, verify.BagTruncated, "") || has(r, verify.BagMissing, ""), "cut at %d: %s", n, text(r))
	}
	r := check(t, append(bytes.Clone(f.a), 0), f.key)
	require.True(t, has(r, verify.BagFraming, ""), text(r))
	r = check(t, append(bytes.Clone(f.a), f.b...), f.key)
	require.True(t, has(r, verify.BagFraming, ""), text(r))
}

// Whole files: removed, cut short, lengthened, repeated, renamed, moved.
func TestFilesRemovedAddedOrMovedAreNamed(t *testing.T) {
	f := bags(t)
	base, mtime, files := unpack(t, f.a)
	tarOf := func(e []entry) []byte { return pack(t, base, mtime, e) }
	for i, e := range files {
		for _, clever := range []bool{false, true} {
			if clever && bag.Phase(e.name) > 10 {
				continue // listing anew would mend it
			}
			list := func(e []entry) []byte {
				if clever {
					e = relist(slices.Clone(e))
				}
				return tarOf(e)
			}
			r := check(t, list(slices.Delete(slices.Clone(files), i, i+1)), f.key)
			require.False(t, r.OK, "%s removed, listed anew: %v", e.name, clever)
			require.True(t, about(r, e.name), "%s removed (listed anew: %v) is not named: %s", e.name, clever, text(r))

			short := slices.Clone(files)
			short[i].body = e.body[:len(e.body)-1]
			r = check(t, list(short), f.key)
			require.False(t, r.OK, "%s cut short", e.name)
			require.True(t, about(r, e.name), "%s cut short (listed anew: %v) is not named: %s", e.name, clever, text(r))
			long := slices.Clone(files)
			long[i].body = append(bytes.Clone(e.body), '\n')
			r = check(t, list(long), f.key)
			require.False(t, r.OK, "%s lengthened", e.name)
			require.True(t, about(r, e.name), "%s lengthened (listed anew: %v) is not named: %s", e.name, clever, text(r))

			twice := slices.Insert(slices.Clone(files), i+1, e)
			r = check(t, list(twice), f.key)
			require.True(t, has(r, verify.BagDuplicate, e.name), "%s twice: %s", e.name, text(r))

			more := entry{name: e.name + ".copy", body: e.body}
			r = check(t, list(slices.Insert(slices.Clone(files), i+1, more)), f.key)
			require.False(t, r.OK, "%s added", more.name)
			require.True(t, about(r, more.name), "%s added (listed anew: %v) is not named: %s", more.name, clever, text(r))
		}
		if i > 0 {
			moved := slices.Clone(files)
			moved[i], moved[i-1] = moved[i-1], moved[i]
			r := check(t, tarOf(moved), f.key)
			require.False(t, r.OK, "%s and %s exchanged places", files[i-1].name, e.name)
		}
	}
}

func TestRemovedAndDroppedSegmentsAreNamed(t *testing.T) {
	f := bags(t)
	base, mtime, files := unpack(t, f.a)
	for _, e := range files {
		if bag.Phase(e.name) != 7 {
			continue
		}
		i := at(t, files, e.name)
		for _, clever := range []bool{false, true} {
			cut := slices.Delete(slices.Clone(files), i, i+1)
			if clever {
				cut = relist(cut)
			}
			r := check(t, pack(t, base, mtime, cut), f.key)
			require.True(t, has(r, verify.SegmentMissing, e.name), text(r))
			if strings.Contains(e.name, "/00000003-") {
				require.Contains(t, text(r), "segment 3 of 4, the last one")
			}
		}
	}
}

// The bytes of two segments exchanged and the files listed anew: the manifest
// states where each belongs.
func TestExchangedSegmentsAreNamed(t *testing.T) {
	f := bags(t)
	base, mtime, files := unpack(t, f.a)
	var segs []int
	for i, e := range files {
		if bag.Phase(e.name) == 7 {
			segs = append(segs, i)
		}
	}
	bad := slices.Clone(files)
	a, b := segs[0], segs[5]
	bad[a].body, bad[b].body = bad[b].body, bad[a].body
	r := check(t, pack(t, base, mtime, relist(bad)), f.key)
	require.True(t, has(r, verify.SegmentChanged, bad[a].name), text(r))
	require.True(t, has(r, verify.SegmentChanged, bad[b].name), text(r))
}

func TestTheCustodyLogCannotBeEdited(t *testing.T) {
	f := bags(t)
	base, mtime, files := unpack(t, f.a)
	log := at(t, files, bag.CustodyLog)
	lines := bytes.SplitAfter(bytes.TrimSuffix(files[log].body, []byte("\n")), []byte("\n"))
	lines[len(lines)-1] = append(bytes.Clone(lines[len(lines)-1]), '\n')
	for i := range lines {
		for what, edit := range map[string]func([][]byte) [][]byte{
			"removed":  func(l [][]byte) [][]byte { return slices.Delete(l, i, i+1) },
			"repeated": func(l [][]byte) [][]byte { return slices.Insert(l, i, l[i]) },
			"moved":    func(l [][]byte) [][]byte { l[i], l[(i+1)%len(l)] = l[(i+1)%len(l)], l[i]; return l },
			"actor": func(l [][]byte) [][]byte {
				l[i] = bytes.Replace(l[i], []byte(`"actor":"`), []byte(`"actor":"x`), 1)
				return l
			},
			"opening": func(l [][]byte) [][]byte {
				l[i] = bytes.Replace(l[i], []byte(`\"actor\":\"`), []byte(`\"actor\":\"x`), 1)
				return l
			},
		} {
			for _, clever := range []bool{false, true} {
				bad := slices.Clone(files)
				bad[log].body = bytes.Join(edit(slices.Clone(lines)), nil)
				if clever {
					bad = relist(bad)
				}
				r := check(t, pack(t, base, mtime, bad), f.key)
				require.False(t, r.OK, "line %d %s", i, what)
				require.True(t, about(r, bag.CustodyLog), "line %d %s is not named: %s", i, what, text(r))
			}
		}
	}
	// A line and its proof, everything listed anew.
	for i := range len(lines) - 1 {
		bad := slices.Clone(files)
		bad[log].body = bytes.Join(slices.Delete(slices.Clone(lines), i, i+1), nil)
		l, err := bag.ParseLine(lines[i])
		require.NoError(t, err)
		p := at(t, bad, bag.ProofPath(l.Readable.ID))
		bad = relist(slices.Delete(bad, p, p+1))
		r := check(t, pack(t, base, mtime, bad), f.key)
		require.True(t, has(r, verify.CustodyExport, bag.CustodyLog), "line %d: %s", i, text(r))
	}
}

// An installation that drops or exchanges recorded data before it seals, with
// its own keys, contradicts the heads in its log.
func TestWhatWasDroppedBeforeSealingIsFound(t *testing.T) {
	r := rig(t, 14)
	redo := func(s *manifest.StreamManifest, capture string) {
		c := manifest.NewChain(capture, s.Name)
		for _, g := range s.Segments {
			require.NoError(t, c.Add(g))
		}
		s.Bytes, s.CipherBytes, s.Count, s.Head = c.Bytes, c.CipherBytes, int(c.Next), c.Head
	}
	for what, change := range map[string]func(*manifest.Manifest){
		"a stream": func(m *manifest.Manifest) { m.Streams = m.Streams[:1] },
		"the last records": func(m *manifest.Manifest) {
			s := &m.Streams[1]
			s.Segments = s.Segments[:1]
			redo(s, m.Capture)
		},
		"a record's time": func(m *manifest.Manifest) {
			s := &m.Streams[1]
			s.Segments[0].Start = s.Segments[0].Start.Add(time.Hour)
			redo(s, m.Capture)
		},
	} {
		rec := r.Forge(t, "forged-"+strings.ReplaceAll(strings.ReplaceAll(what, " ", "-"), "'", ""), []string{"audio", "video"}, 4, 500, change)
		rec.Trim()
		got := check(t, r.Export(t, rec), r.Ledger.VerifierKey())
		require.True(t, has(got, verify.CaptureHead, ""), "%s: %s", what, text(got))
	}
}

// Genuine parts in the wrong place: from another bag of the same installation,
// or an older checkpoint.
func TestPartsOfAnotherBagAreFound(t *testing.T) {
	f := bags(t)
	base, mtime, files := unpack(t, f.a)
	_, _, other := unpack(t, f.b)
	twin := func(name string) string { return strings.ReplaceAll(name, "0198-a", "0198-b") }
	for i, e := range files {
		j := slices.IndexFunc(other, func(o entry) bool { return o.name == e.name || o.name == twin(e.name) })
		if bag.Phase(e.name) == 7 { // named by hash: by place instead
			j = i - at(t, files, bag.ManifestPath("0198-a")) + at(t, other, bag.ManifestPath("0198-b"))
		}
		if j < 0 || bytes.Equal(other[j].body, e.body) {
			continue
		}
		for _, clever := range []bool{false, true} {
			if clever && bag.Phase(e.name) > 10 {
				continue // listing anew would mend it
			}
			bad := slices.Clone(files)
			bad[i].body = other[j].body
			if clever {
				bad = relist(bad)
			}
			r := check(t, pack(t, base, mtime, bad), f.key)
			require.False(t, r.OK, "%s of the other bag", e.name)
			require.True(t, about(r, e.name), "%s of the other bag (listed anew: %v) is not named: %s", e.name, clever, text(r))
		}
	}
	bad := slices.Clone(files)
	bad[at(t, bad, bag.CheckpointTxt)].body = f.older
	r := check(t, pack(t, base, mtime, relist(bad)), f.key)
	require.True(t, has(r, verify.LogCheckpoint, bag.CheckpointTxt), text(r))
	require.True(t, has(r, verify.BagSignature, ""), text(r))
}

// Only the bag's signature covers the tag files and the page.
func TestARewrittenReportIsFound(t *testing.T) {
	f := bags(t)
	base, mtime, files := unpack(t, f.a)
	for _, name := range []string{bag.Report, bag.Info, bag.Crate} {
		bad := slices.Clone(files)
		i := at(t, bad, name)
		bad[i].body = append(bytes.Clone(bad[i].body), ' ')
		r := check(t, pack(t, base, mtime, relist(bad)), f.key)
		require.True(t, has(r, verify.BagSignature, bag.Signature), "%s: %s", name, text(r))
		require.True(t, has(r, verify.BagChanged, name), "it is named: %s", text(r))
	}
	r := check(t, pack(t, "evidence-renamed", mtime, files), f.key)
	require.True(t, has(r, verify.BagSignature, ""), text(r))
	r = check(t, pack(t, base, mtime+1, files), f.key)
	require.True(t, has(r, verify.BagSignature, ""), text(r))
}
