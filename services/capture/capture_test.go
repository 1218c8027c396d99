package capture_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/blob"
	"github.com/openova-io/bp-relay/services/blob/blobtest"
	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/format/manifest"
	"github.com/openova-io/bp-relay/services/records"
)

func TestWhatIsAppendedIsStoredByteForByte(t *testing.T) {
	for name, rigOn := range map[string]func(testing.TB) *rig{"SQLite": newRig, "PostgreSQL": onPostgres} {
		t.Run(name, func(t *testing.T) { byteForByte(t, rigOn(t)) })
	}
}

func byteForByte(t *testing.T, r *rig) {
	m, _ := r.manager()
	begin := time.Now()
	md := meta(capture.Required)
	c, ss := open(t, m, md, video, capture.StreamMeta{Name: "audio", MediaType: "audio/webm", Ext: ".webm"}, capture.StreamMeta{Name: "empty"})
	big, small := input(1, 9<<20), input(2, 30_000)
	feed(t, ss[0], big[:5<<20], 64<<10)
	ss[0].Mark("keyframe", begin.Add(time.Second), "width", "1280")
	feed(t, ss[0], big[5<<20:], 64<<10)
	feed(t, ss[1], small, 300)
	ss[1].Gap(begin, begin.Add(time.Millisecond), "packet loss")
	require.NoError(t, ss[1].Close())
	require.ErrorIs(t, ss[1].Append([]byte("x")), capture.ErrClosed)
	require.EqualValues(t, len(big), ss[0].Size())
	require.WithinDuration(t, time.Now(), ss[0].LastAppend(), 10*time.Second)

	got := seal(t, c)
	require.Equal(t, got, seal(t, c), "sealing again gives the same manifest")
	require.ErrorIs(t, ss[0].Append([]byte("x")), capture.ErrClosed)
	require.Equal(t, got, r.sealedManifest(m, md.Name))

	same(t, big, stored(t, m, md.Name, "video"))
	same(t, small, stored(t, m, md.Name, "audio"))
	require.Empty(t, stored(t, m, md.Name, "empty"))

	require.Equal(t, md.Owner, got.Owner)
	require.Equal(t, md.Actor, got.Actor)
	require.Equal(t, md.Attributes, got.Attributes)
	require.Contains(t, []string{"unsynchronised", "adjtimex"}, got.Clock.Source)
	require.WithinDuration(t, begin, got.Start, time.Second)
	v, _ := got.Stream("video")
	require.Equal(t, video.MediaType, v.MediaType)
	require.GreaterOrEqual(t, v.Count, 3, "9 MiB need three segments of at most 4 MiB")
	require.Empty(t, v.Gaps)
	require.Equal(t, []manifest.Mark{{Kind: "keyframe", At: begin.Add(time.Second).UTC().Truncate(time.Microsecond), Offset: 5 << 20, Attributes: map[string]string{"width": "1280"}}}, v.Marks())
	a, _ := got.Stream("audio")
	require.Len(t, a.Gaps, 1)
	require.Equal(t, "packet loss", a.Gaps[0].Reason)
	require.True(t, a.Segments[a.Count-1].Last)
	for _, g := range v.Segments {
		require.LessOrEqual(t, g.CipherLen, int64(4<<20))
		require.Equal(t, g.CipherSHA256, manifest.SHA256(r.object(g.Key)))
		require.True(t, strings.HasSuffix(g.Key, "-"+g.CipherSHA256+".age"), g.Key)
		require.NotContains(t, string(r.object(g.Key)), string(big[g.Offset:g.Offset+64]), "stored in the clear")
	}

	r.spoolEmpty(m)
	metrics := gathered(t, m)
	require.InDelta(t, got.Segments(), metrics["relay_capture_segments_stored_total"], 0)
	require.InDelta(t, got.Bytes(), metrics["relay_capture_stored_plain_bytes_total"], 0)
	require.InDelta(t, 1, metrics["relay_capture_gaps_total"], 0)
	require.InDelta(t, 0, metrics["relay_capture_spool_bytes"], 0)
	leaves := r.leaves(md.Name)
	require.Len(t, leaves["capture.opened"], 1)
	require.Len(t, leaves["capture.stream_opened"], 3)
	require.Len(t, leaves["capture.sealed"], 1)
	info, err := m.Get(t.Context(), md.Name)
	require.NoError(t, err)
	require.Contains(t, string(leaves["capture.sealed"][0].Detail), info.Manifest.SHA256)
	require.Equal(t, v.Head, info.Streams[0].Head)
}

// gathered is the manager's metrics by name.
func gathered(t *testing.T, m *capture.Manager) map[string]float64 {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(m.Metrics()...)
	families, err := reg.Gather()
	require.NoError(t, err)
	out := make(map[string]float64)
	for _, f := range families {
		out[f.GetName()] = f.GetMetric()[0].GetCounter().GetValue() + f.GetMetric()[0].GetGauge().GetValue()
	}
	return out
}

// gatheredOf is the sum of a metric's counters that have a label of this value.
func gatheredOf(t *testing.T, m *capture.Manager, name, label string) (sum float64) {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(m.Metrics()...)
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		for _, x := range f.GetMetric() {
			for _, l := range x.GetLabel() {
				if f.GetName() == name && l.GetValue() == label {
					sum += x.GetCounter().GetValue()
				}
			}
		}
	}
	return sum
}

// The bytes of one Append are never split, and the largest ones fit into one
// object.
func TestTheLargestAppendIsOneSegment(t *testing.T) {
	r := newRig(t)
	m, _ := r.manager()
	c, ss := open(t, m, meta(capture.Required), video)
	p := input(3, capture.MaxAppend)
	require.NoError(t, ss[0].Append([]byte("before")))
	require.NoError(t, ss[0].Append(p))
	require.NoError(t, ss[0].Append([]byte("after")))
	require.NoError(t, ss[0].Append(nil))
	require.ErrorIs(t, ss[0].Append(make([]byte, capture.MaxAppend+1)), capture.ErrTooLarge)
	v := seal(t, c).Streams[0]
	require.Equal(t, 3, v.Count)
	require.EqualValues(t, capture.MaxAppend, v.Segments[1].PlainLen)
	require.LessOrEqual(t, v.Segments[1].CipherLen, int64(4<<20))
	same(t, append(append([]byte("before"), p...), "after"...), stored(t, m, c.Name(), "video"))
}

// A segment ends after 4 s even without appends, and a head reaches the log
// within 10 s.
func TestSegmentsAndHeadsByTime(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	m, _ := r.manager()
	c, ss := open(t, m, meta(capture.Required), video)
	require.NoError(t, ss[0].Append([]byte("one")))
	require.Eventually(t, func() bool {
		info, err := m.Get(t.Context(), c.Name())
		require.NoError(t, err)
		return len(info.Streams) > 0 && info.Streams[0].Segments == 1
	}, 7*time.Second, 50*time.Millisecond, "a segment is stored soon after its 4 s")
	require.Eventually(t, func() bool { return len(r.leaves(c.Name())["capture.head"]) == 1 }, 10*time.Second, 50*time.Millisecond)
	info, err := m.Get(t.Context(), c.Name())
	require.NoError(t, err)
	require.JSONEq(t, `{"capture":"`+c.Name()+`","heads":{"video":{"seq":0,"hash":"`+info.Streams[0].Head+`"}}}`,
		string(r.leaves(c.Name())["capture.head"][0].Detail))
	require.NoError(t, ss[0].Append([]byte("two")))
	require.Equal(t, 2, seal(t, c).Streams[0].Count)
}

func TestNamesAndStates(t *testing.T) {
	r := newRig(t)
	m, _ := r.manager()
	for what, edit := range map[string]func(*capture.Meta){
		"name":      func(m *capture.Meta) { m.Name = "captures/x" },
		"path":      func(m *capture.Meta) { m.Name = "orgs/acme/captures/../x" },
		"dots":      func(m *capture.Meta) { m.Name, m.Org = "orgs/../captures/x", ".." },
		"org":       func(m *capture.Meta) { m.Org = "other" },
		"bucket":    func(m *capture.Meta) { m.Bucket = "" },
		"mode":      func(m *capture.Meta) { m.Mode = "" },
		"attribute": func(m *capture.Meta) { m.Attributes = map[string]string{"a": "\xff"} },
	} {
		md := meta(capture.Required)
		edit(&md)
		_, err := m.Open(t.Context(), md)
		require.ErrorIs(t, err, capture.ErrInvalid, what)
	}
	md := meta(capture.Required)
	c, ss := open(t, m, md, video)
	_, err := m.Open(t.Context(), md)
	require.ErrorIs(t, err, capture.ErrActive)
	_, err = m.Resume(t.Context(), md.Name)
	require.ErrorIs(t, err, capture.ErrActive)
	again, err := c.Stream(t.Context(), video)
	require.NoError(t, err)
	require.Same(t, ss[0], again)
	for _, bad := range []string{"", "UP", "a/b", "..", strings.Repeat("a", 65)} {
		_, err := c.Stream(t.Context(), capture.StreamMeta{Name: bad})
		require.ErrorIs(t, err, capture.ErrInvalid, bad)
	}
	seal(t, c)
	_, err = m.Open(t.Context(), md)
	require.ErrorIs(t, err, records.ErrExists)
	_, err = m.Resume(t.Context(), md.Name)
	require.ErrorIs(t, err, capture.ErrSealed)
	require.NoError(t, m.SealAbandoned(t.Context(), md.Name, "late"), "sealed already")
	_, err = c.Stream(t.Context(), capture.StreamMeta{Name: "more"})
	require.ErrorIs(t, err, capture.ErrClosed)
	_, err = m.Resume(t.Context(), "orgs/acme/captures/none")
	require.ErrorIs(t, err, records.ErrNotFound)
	_, err = m.Read(t.Context(), md.Name, "none")
	require.ErrorIs(t, err, capture.ErrInvalid)
	r.spoolEmpty(m)

	_, err = capture.New(capture.Config{Dir: r.dir, Records: r.records, Blob: r.blob, Keys: r.keys})
	require.ErrorContains(t, err, "in use by another process")
}

func TestSpoolIsClosedToOthers(t *testing.T) {
	r := newRig(t)
	m, _ := r.manager(func(c *capture.Config) { c.Blob = down(r.blob) })
	_, ss := open(t, m, meta(capture.Required), video)
	feed(t, ss[0], input(4, 6<<20), 64<<10)
	seen := 0
	require.NoError(t, filepath.WalkDir(r.dir, func(path string, d os.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil // encrypted since
		}
		require.NoError(t, err)
		st, err := d.Info()
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		require.NoError(t, err)
		require.Zero(t, st.Mode().Perm()&0o077, path)
		seen++
		return nil
	}))
	require.GreaterOrEqual(t, seen, 5)
}

func down(b blob.Store) *blobtest.Faulty {
	f := blobtest.NewFaulty(b)
	f.FailAll(nil)
	return f
}

// A manifest that is too long for one object is stored in several.
func TestLongManifest(t *testing.T) {
	r := newRig(t)
	m, _ := r.manager(func(c *capture.Config) { c.SetMaxObject(1000) })
	c, ss := open(t, m, meta(capture.Required), video)
	_, _, err := m.Manifest(t.Context(), c.Name())
	require.ErrorIs(t, err, capture.ErrNotSealed)
	feed(t, ss[0], input(5, 9<<20), 64<<10)
	got := seal(t, c)
	require.Equal(t, got, r.sealedManifest(m, c.Name()))
	info, err := m.Get(t.Context(), c.Name())
	require.NoError(t, err)
	require.Greater(t, info.Manifest.Parts, 2)
	require.NoError(t, r.blob.Replace(t.Context(), bucket, info.Manifest.Key+".0001", make([]byte, 9<<20)))
	_, _, err = m.Manifest(t.Context(), c.Name())
	require.ErrorContains(t, err, "more than 8388608 bytes", "not read to its end")
	require.NoError(t, r.blob.Replace(t.Context(), bucket, info.Manifest.Key+".0001", []byte("other")))
	_, _, err = m.Manifest(t.Context(), c.Name())
	require.ErrorIs(t, err, capture.ErrDamaged)
	body, err := m.Segment(t.Context(), got, got.Streams[0].Segments[0])
	require.NoError(t, err)
	cipher, err := readAll(body)
	require.NoError(t, err)
	require.Equal(t, got.Streams[0].Segments[0].CipherSHA256, manifest.SHA256(cipher))
}

// A reader must never get bytes that differ from the recorded ones.
func TestReadRefusesWhatWasNotRecorded(t *testing.T) {
	r := newRig(t)
	faulty := blobtest.NewFaulty(r.blob)
	m, _ := r.manager(func(c *capture.Config) { c.Blob = faulty })
	c, ss := open(t, m, meta(capture.Required), video)
	p := input(5, 9<<20)
	feed(t, ss[0], p, 64<<10)
	segs := seal(t, c).Streams[0].Segments

	for what, fault := range map[string]blobtest.Fault{
		"flipped":   {Op: blobtest.Get, Kind: blobtest.Flip, At: 100_000},
		"header":    {Op: blobtest.Get, Kind: blobtest.Flip, At: 3},
		"truncated": {Op: blobtest.Get, Kind: blobtest.Truncate, At: 70_000},
		"zeroed":    {Op: blobtest.Get, Kind: blobtest.Zero, At: 70_000},
	} {
		faulty.Add(fault)
		_, err := m.Read(t.Context(), c.Name(), "video")
		require.ErrorIs(t, err, capture.ErrDamaged, what)
		fault.Key, fault.Op = segs[1].Key, blobtest.Get
		faulty.Add(fault)
		rd, err := m.Read(t.Context(), c.Name(), "video")
		require.NoError(t, err)
		got, err := readAll(rd)
		require.ErrorIs(t, err, capture.ErrDamaged, what)
		same(t, p[:segs[0].PlainLen], got)
	}
	faulty.Add(blobtest.Fault{Op: blobtest.Get, Err: blob.ErrRecalling})
	_, err := m.Read(t.Context(), c.Name(), "video")
	require.ErrorIs(t, err, blob.ErrRecalling)
	same(t, p, stored(t, m, c.Name(), "video"))

	// Another whole segment of the same stream, at this one's key.
	require.NoError(t, r.blob.Replace(t.Context(), bucket, segs[1].Key, r.object(segs[0].Key)))
	rd, err := m.Read(t.Context(), c.Name(), "video")
	require.NoError(t, err)
	_, err = readAll(rd)
	require.ErrorIs(t, err, capture.ErrDamaged)
}
