package manifest_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/format/dsse"
	"github.com/openova-io/bp-relay/services/format/manifest"
)

// collector puts a manifest together again.
type collector struct {
	m      manifest.Manifest
	heads  []string
	broken []error
	stop   error
}

func (c *collector) Manifest(m manifest.Manifest) error {
	c.m = m
	return c.stop
}

func (c *collector) Stream(s manifest.StreamManifest) error {
	c.m.Streams = append(c.m.Streams, s)
	return nil
}

func (c *collector) Segment(g manifest.Segment, head string) error {
	s := &c.m.Streams[len(c.m.Streams)-1]
	s.Segments = append(s.Segments, g)
	c.heads = append(c.heads, head)
	return nil
}

func (c *collector) Broken(err error) { c.broken = append(c.broken, err) }

// payload is what a manifest's signature covers.
func payload(t testing.TB, m manifest.Manifest) []byte {
	t.Helper()
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	env, err := manifest.Sign(m, key)
	require.NoError(t, err)
	e, err := dsse.Read(bytes.NewReader(env), int64(len(env)), manifest.PayloadType)
	require.NoError(t, err)
	require.NoError(t, e.Verify(key.Public().(ed25519.PublicKey)))
	out, err := io.ReadAll(e.Payload())
	require.NoError(t, err)
	return out
}

func TestReadGivesWhatWasSigned(t *testing.T) {
	m := sample(t, 5)
	var c collector
	require.NoError(t, manifest.Read(bytes.NewReader(payload(t, m)), &c))
	require.Empty(t, c.broken)
	c.m.V = manifest.Version // it comes last
	require.Equal(t, m, c.m)
	require.Equal(t, m.Streams[0].Head, c.heads[4])
	require.Equal(t, m.Streams[1].Head, c.heads[9])

	c.stop = errors.New("enough")
	require.ErrorIs(t, manifest.Read(bytes.NewReader(payload(t, m)), &c), c.stop)
}

// What Check finds in a manifest in memory, Read finds, too, and it goes on.
func TestReadFindsWhatCheckFinds(t *testing.T) {
	for what, tamper := range map[string]func(m *manifest.Manifest){
		"one removed":    func(m *manifest.Manifest) { m.Streams[0].Segments = m.Streams[0].Segments[1:] },
		"count":          func(m *manifest.Manifest) { m.Streams[0].Count = 200_000_000 },
		"bytes":          func(m *manifest.Manifest) { m.Streams[0].Bytes++ },
		"head":           func(m *manifest.Manifest) { m.Streams[0].Head = manifest.Genesis(name, "x") },
		"gap not listed": func(m *manifest.Manifest) { m.Streams[0].Gaps = nil },
		"listed twice":   func(m *manifest.Manifest) { m.Streams[1] = m.Streams[0] },
	} {
		m := sample(t, 5)
		tamper(&m)
		require.ErrorIs(t, m.Check(), manifest.ErrChain, what)
		var c collector
		require.NoError(t, manifest.Read(bytes.NewReader(payload(t, m)), &c), what)
		require.NotEmpty(t, c.broken, what)
		require.ErrorIs(t, c.broken[0], manifest.ErrChain, what)
		require.Len(t, c.m.Streams, 2, what)
	}
	var c collector
	other := bytes.Replace(payload(t, sample(t, 2)), []byte("/streams/audio"), []byte("/streams/other"), 1)
	require.NoError(t, manifest.Read(bytes.NewReader(other), &c))
	require.Len(t, c.broken, 1, "the statement's subjects are not the streams")
}

func TestReadRefusesOtherForms(t *testing.T) {
	good := string(payload(t, sample(t, 1)))
	for what, bad := range map[string]string{
		"unknown field":  strings.Replace(good, `"bucket":`, `"bubble":1,"bucket":`, 1),
		"order":          strings.Replace(good, `"actor":"u1",`, "", 1)[:len(good)-len(`"actor":"u1",`)-1] + `,"actor":"u1"}`,
		"twice":          strings.Replace(good, `"bucket":"b"`, `"bucket":"b","bucket":"b"`, 1),
		"version":        strings.Replace(good, `"v":1`, `"v":2`, 1),
		"type":           strings.Replace(good, "seal/v1", "seal/v2", 1),
		"more":           good + "{}",
		"cut":            good[:len(good)-1],
		"many objects":   strings.Replace(good, `"segments":[`, `"segments":[{"marks":[`+strings.Repeat("{},", 10_000)+"{}]},", 1),
		"a long value":   strings.Replace(good, `"bucket":"b"`, `"bucket":"`+strings.Repeat("b", 1<<20)+`"`, 1),
		"many gaps":      strings.Replace(good, `"gaps":[`, `"gaps":[`+strings.Repeat("{},", 70_000), 1),
		"list not begun": strings.Replace(good, `"streams":[`, `"streams":{"a":[`, 1),
	} {
		require.NotEqual(t, good, bad, what)
		require.Error(t, manifest.Read(strings.NewReader(bad), &collector{}), what)
	}
}

// endless is a manifest that never ends, of segments that say nothing.
type endless struct{ at int }

func (e *endless) Read(p []byte) (int, error) {
	const head = `{"_type":"x","predicate":{"capture":"c","streams":[{"name":"a","segments":[`
	n := 0
	for ; n < len(p) && e.at < 4<<20; n++ {
		if e.at < len(head) {
			p[n] = head[e.at]
		} else {
			p[n] = "{},"[(e.at-len(head))%3]
		}
		e.at++
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// forgetful keeps nothing.
type forgetful struct{ collector }

func (forgetful) Segment(manifest.Segment, string) error { return nil }

func TestReadNeedsConstantMemory(t *testing.T) {
	var peak uint64
	var now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&now)
	before := now.HeapAlloc
	in := &sampled{in: &endless{}, each: func() {
		runtime.ReadMemStats(&now)
		peak = max(peak, now.HeapAlloc)
	}}
	require.Error(t, manifest.Read(in, &forgetful{}))
	require.Less(t, peak-min(before, peak), uint64(32<<20)) // decoded as a whole: 350 MB
}

type sampled struct {
	in   io.Reader
	n    int
	each func()
}

func (s *sampled) Read(p []byte) (int, error) {
	if s.n++; s.n%4 == 0 {
		s.each()
	}
	return s.in.Read(p)
}

func FuzzRead(f *testing.F) {
	m := manifest.Manifest{V: 1, Capture: name, Streams: []manifest.StreamManifest{{Name: "a", Head: manifest.Genesis(name, "a"), Segments: []manifest.Segment{}}}}
	f.Add(payload(f, m))
	f.Add([]byte(`{"predicate":{"streams":[{"count":200000000,"segments":[{"marks":[{},{}]}]}]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		var c collector
		err := manifest.Read(bytes.NewReader(b), &c)
		runtime.ReadMemStats(&after)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4<<20+1000*len(b)))
		var st struct {
			Predicate manifest.Manifest `json:"predicate"`
		}
		if err == nil && len(c.broken) == 0 {
			require.NoError(t, json.Unmarshal(b, &st))
			require.NoError(t, st.Predicate.Check(), string(b))
		}
	})
}
