package verify_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/format/bag"
	"github.com/openova-io/bp-relay/services/format/leaf"
	"github.com/openova-io/bp-relay/services/format/manifest"
	"github.com/openova-io/bp-relay/services/verify"
)

// Whoever can write the records, but not the entries that are numbered already,
// changes what the sealer reads: the manifest, properly signed and sealed, then
// contradicts the log.
func TestAManifestThatContradictsTheLogIsFound(t *testing.T) {
	r := rig(t, 16)
	for what, change := range map[string]func(*manifest.Manifest){
		"start":      func(m *manifest.Manifest) { m.Start = m.Start.Add(-time.Hour) },
		"end":        func(m *manifest.Manifest) { m.End = m.End.Add(-time.Microsecond) },
		"actor":      func(m *manifest.Manifest) { m.Actor = "somebody-else" },
		"no actor":   func(m *manifest.Manifest) { m.Actor = "" },
		"owner":      func(m *manifest.Manifest) { m.Owner += "x" },
		"org":        func(m *manifest.Manifest) { m.Org = "evil" },
		"mode":       func(m *manifest.Manifest) { m.Mode = "best_effort" },
		"bucket":     func(m *manifest.Manifest) { m.Bucket = "elsewhere" },
		"key":        func(m *manifest.Manifest) { m.KeyID = "age1other" },
		"abandoned":  func(m *manifest.Manifest) { m.Abandoned = "session interrupted" },
		"media type": func(m *manifest.Manifest) { m.Streams[1].MediaType = "text/plain" },
		"extension":  func(m *manifest.Manifest) { m.Streams[1].Ext = ".txt" },
		"attributes": func(m *manifest.Manifest) { m.Streams[1].Attributes = map[string]string{"track_sid": "TR_x"} },
		"stream added": func(m *manifest.Manifest) {
			m.Streams = append(m.Streams, manifest.StreamManifest{Name: "more", Segments: []manifest.Segment{}, Head: manifest.Genesis(m.Capture, "more")})
		},
	} {
		t.Run(what, func(t *testing.T) {
			rec := r.Forge(t, fmt.Sprintf("says-%x", what), []string{"audio", "video"}, 2, 100, change)
			got := check(t, r.Export(t, rec), r.Ledger.VerifierKey())
			require.True(t, has(got, verify.CaptureContradiction, ""), text(got))
			require.Equal(t, verify.Failed, got.Verdict)
		})
	}
}

// Entries of the session or recording contradict the manifest.
func TestAnEntryThatContradictsTheManifestIsFound(t *testing.T) {
	r := rig(t, 17)
	right := r.Record(t, "right", []string{"output", "input"}, 2, 100)
	for _, detail := range []map[string]any{
		{"capture": right.M.Capture, "recording": "required"},
		{"streams": map[string]int64{"output": right.M.Streams[0].Bytes, "input": right.M.Streams[1].Bytes}, "output_bytes": 7},
	} {
		r.Add(t, leaf.Act{Type: "session.started", Org: "acme", Actor: "u1", Subject: right.M.Owner, Detail: detail})
	}
	got := check(t, r.Export(t, right), r.Ledger.VerifierKey())
	require.True(t, got.OK, text(got))

	for what, act := range map[string]leaf.Act{
		"capture":      {Detail: map[string]any{"capture": "orgs/acme/captures/another"}},
		"mode":         {Detail: map[string]any{"recording": "best_effort"}},
		"actor":        {Actor: "somebody-else"},
		"bytes":        {Detail: map[string]any{"streams": map[string]int64{"output": 1, "input": right.M.Streams[1].Bytes}}},
		"no input":     {Detail: map[string]any{"streams": map[string]int64{"output": right.M.Streams[0].Bytes}}},
		"one more":     {Detail: map[string]any{"streams": map[string]int64{"output": right.M.Streams[0].Bytes, "input": right.M.Streams[1].Bytes, "x": 1}}},
		"manifest":     {Type: "session.sealed", Detail: map[string]any{"manifest_sha256": manifest.SHA256(nil)}},
		"not readable": {Detail: map[string]any{"streams": "many"}},
	} {
		t.Run(what, func(t *testing.T) {
			rec := r.Forge(t, fmt.Sprintf("says2-%x", what), []string{"output", "input"}, 2, 100, func(m *manifest.Manifest) {
				m.Streams[0].Gaps, m.Streams[0].Segments[1].Gaps = nil, nil
				c := manifest.NewChain(m.Capture, "output")
				for _, g := range m.Streams[0].Segments {
					require.NoError(t, c.Add(g))
				}
				m.Streams[0].Head = c.Head
			})
			act.Subject = rec.M.Owner
			if act.Type == "" {
				act.Type = "session.started"
			}
			act.Org = "acme"
			if act.Actor == "" {
				act.Actor = "u1"
			}
			r.Add(t, act)
			got := check(t, r.Export(t, rec), r.Ledger.VerifierKey())
			require.True(t, has(got, verify.CaptureContradiction, ""), text(got))
		})
	}
}

// The target of a session is an opening that the manifest commits to.
func TestTheTargetIsProven(t *testing.T) {
	r := rig(t, 18)
	where := bag.Target{Capture: "orgs/acme/captures/where", Protocol: "ssh", Host: "10.1.2.3", Port: 2222, Account: "op", HostKey: "ssh-rsa SHA256:abc"}
	note := func() (entry, commit string) {
		id := r.Add(t, leaf.Act{Type: bag.TargetType, Org: "acme", Actor: "u1", Subject: "orgs/acme/recordings/where", Detail: where})
		l, err := r.Records.Log().LeafByID(t.Context(), id)
		require.NoError(t, err)
		b, _, err := leaf.Open(l.Body, l.Opening)
		require.NoError(t, err)
		return id, b.Commit
	}
	entry, commit := note()
	rec := r.Forge(t, "where", []string{"output"}, 1, 100, func(m *manifest.Manifest) {
		m.Attributes = map[string]string{bag.TargetEntry: entry, bag.TargetCommit: commit}
	})
	archive := r.Export(t, rec)
	got := check(t, archive, r.Ledger.VerifierKey())
	require.True(t, got.OK, text(got))
	require.Equal(t, where, *got.Target)
	const shown = "ssh to 10.1.2.3 port 2222 as op, host key ssh-rsa SHA256:abc"
	require.Contains(t, text(got), "\ntarget    "+shown+"\n")
	_, _, files := unpack(t, archive)
	require.Contains(t, string(files[at(t, files, bag.Report)].body), shown)
	require.NotContains(t, string(rec.Envelope), "10.1.2.3", "the manifest, which is never erased, has the commitment only")

	where.Capture = "orgs/acme/captures/elsewhere"
	other, _ := note()
	rec = r.Forge(t, "elsewhere", []string{"output"}, 1, 100, func(m *manifest.Manifest) {
		m.Owner = "orgs/acme/recordings/where"
		m.Attributes = map[string]string{bag.TargetEntry: other, bag.TargetCommit: commit}
	})
	got = check(t, r.Export(t, rec), r.Ledger.VerifierKey())
	require.True(t, has(got, verify.CaptureContradiction, ""), text(got))
	require.Nil(t, got.Target)
}

// What the store has lost is stated, and the rest is there.
func TestWhatTheBagStatesAsDamagedIsIncomplete(t *testing.T) {
	r := rig(t, 19)
	rec := r.Record(t, "0198-c", []string{"audio", "video"}, 4, 3000)
	rec.Lose("audio", 1, nil)
	rec.Lose("video", 3, []byte("other bytes"))
	archive := r.Export(t, rec)
	got := check(t, archive, r.Ledger.VerifierKey())
	require.Equal(t, verify.Incomplete, got.Verdict, text(got))
	require.Equal(t, 4, got.ExitCode())
	require.False(t, got.OK)
	require.Equal(t, []verify.Damage{
		{Stream: "audio", Segment: 1, Part: bag.StoredPart, Why: bag.WhyMissing},
		{Stream: "video", Segment: 3, Part: bag.StoredPart, Why: bag.WhyChanged},
	}, got.Damaged)
	require.True(t, len(text(got)) > 0 && text(got)[:11] == "INCOMPLETE:", text(got))
	base, mtime, files := unpack(t, archive)
	require.Contains(t, string(files[at(t, files, bag.Report)].body), "What is missing from this export")

	// The statement is no licence: what it does not name must be there, what it
	// names must be zero in the playable file, and nobody else can make one.
	i := at(t, files, "data/recordings/0198-c/playable/audio.webm")
	first := int(rec.M.Streams[0].Segments[0].PlainLen)
	for what, change := range map[string]func([]entry) []entry{
		"smuggled bytes": func(e []entry) []entry { e[i].body[first+5] = 1; return e },
		"another byte":   func(e []entry) []entry { e[i].body[5] ^= 1; return e },
		"no statement": func(e []entry) []entry {
			j := at(t, e, bag.Damaged)
			return append(e[:j:j], e[j+1:]...)
		},
		"a longer statement": func(e []entry) []entry {
			j := at(t, e, bag.Damaged)
			e[j].body = append(bytes.Clone(e[j].body), []byte(`{"stream":"audio","seq":2,"part":"stored","why":"missing"}`+"\n")...)
			k := at(t, e, bag.SegmentPath("0198-c", "audio", rec.M.Streams[0].Segments[2]))
			return append(e[:k:k], e[k+1:]...)
		},
	} {
		for _, list := range []func([]entry) []entry{func(e []entry) []entry { return e }, relist} {
			_, _, again := unpack(t, archive)
			bad := check(t, pack(t, base, mtime, list(change(again))), r.Ledger.VerifierKey())
			require.Equal(t, verify.Failed, bad.Verdict, "%s: %s", what, text(bad))
		}
	}
	got, err := verify.Verify(t.Context(), verify.Config{Bag: folder(t, base, files), Key: r.Ledger.VerifierKey()})
	require.NoError(t, err)
	require.Equal(t, verify.Incomplete, got.Verdict, text(got))
}

// There is no rule yet by which details are erased: an entry without them is a
// finding, even if everything else is proven.
func TestAnEntryWithoutItsDetailsIsFound(t *testing.T) {
	r := rig(t, 20)
	rec := r.Record(t, "0198-d", []string{"audio"}, 1, 100)
	leaves, err := r.Records.Log().LeavesOf(t.Context(), "acme", rec.M.Capture, -1, 100)
	require.NoError(t, err)
	require.NotEmpty(t, leaves)
	r.Fill(t, 1) // everything is numbered
	for what, opening := range map[string][]byte{"erased": nil, "exchanged": []byte(`{"actor":"somebody-else"}`)} {
		r.SQL(t, "UPDATE leaves SET opening = ? WHERE id = ?", opening, leaves[0].ID)
		got := check(t, r.Export(t, rec), r.Ledger.VerifierKey())
		require.True(t, has(got, verify.CustodyErased, bag.CustodyLog), "%s: %s", what, text(got))
		require.Contains(t, text(got), "capture.opened")
		require.NotContains(t, text(got), "somebody-else")
	}
}
