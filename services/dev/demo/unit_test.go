package demo

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	turnv1 "github.com/openova-io/bp-relay/gen/relay/turn/v1"

	"github.com/openova-io/bp-relay/services/dev/testmedia"
	"github.com/openova-io/bp-relay/services/format/bag"
	"github.com/openova-io/bp-relay/services/verify"
)

func TestOnlyARelayedPairOfOursWillDo(t *testing.T) {
	gateways := []*turnv1.Gateway{{
		Name: "orgs/acme/gateways/default", Peers: []string{"127.0.0.1:7882-7884"},
		Listeners: []*turnv1.Listener{{Protocol: turnv1.Listener_PROTOCOL_UDP, Address: "127.0.0.1", Port: 3478}},
	}}
	relay := func(kind, local, remote string, port int) testmedia.Pair {
		return testmedia.Pair{Local: testmedia.Candidate{Type: kind, Address: local, Port: 40000}, Remote: testmedia.Candidate{Type: "host", Address: remote, Port: port}}
	}
	g, err := through(relay("relay", "127.0.0.1", "127.0.0.1", 7883), gateways)
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:3478/udp", listeners(g))
	for name, pair := range map[string]testmedia.Pair{
		"direct":              relay("host", "127.0.0.1", "127.0.0.1", 7883),
		"reflexive":           relay("srflx", "127.0.0.1", "127.0.0.1", 7883),
		"another gateway":     relay("relay", "127.0.0.2", "127.0.0.1", 7883),
		"another peer":        relay("relay", "127.0.0.1", "127.0.0.3", 7883),
		"another peer's port": relay("relay", "127.0.0.1", "127.0.0.1", 7885),
	} {
		_, err := through(pair, gateways)
		require.Error(t, err, name)
	}
}

func TestWhatFfprobeMustSay(t *testing.T) {
	good := `{"streams": [{"codec_type": "video", "codec_name": "vp8", "width": 1280, "height": 720}], "packets": [{"pts_time": "0.4"}, {"pts_time": "19.4", "duration_time": "0.033"}]}`
	for name, c := range map[string]struct{ from, to, fails string }{
		"good":          {"", "", ""},
		"short":         {`"19.4"`, `"19.3"`, "want at least 19s"},
		"another codec": {"vp8", "vp9", "vp9"},
		"another size":  {"1280", "640", "640x720"},
		"no packets":    {`{"pts_time": "0.4"}, {"pts_time": "19.4", "duration_time": "0.033"}`, "", "0 packets"},
		"no time":       {`"0.4"`, `"N/A"`, "times"},
	} {
		p := decodeProbe(t, strings.Replace(good, c.from, c.to, 1))
		facts, err := p.check(video, 19*time.Second)
		if c.fails == "" {
			require.NoError(t, err)
			require.Equal(t, "VP8 1280x720, 19.03 s, 2 packets", facts)
			continue
		}
		require.ErrorContains(t, err, c.fails, name)
	}
	_, err := decodeProbe(t, good).check(audio, time.Second)
	require.Error(t, err)
}

// pack writes a bag's tar of these files.
func pack(t *testing.T, files ...[2]string) exported {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		require.NoError(t, w.WriteHeader(bag.Header("base", f[0], int64(len(f[1])), 1000)))
		_, err := io.WriteString(w, f[1])
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	path := filepath.Join(t.TempDir(), "bag.tar")
	require.NoError(t, os.WriteFile(path, b.Bytes(), 0o600))
	entries, err := list(path)
	require.NoError(t, err)
	require.Len(t, entries, len(files))
	return exported{path: path, entries: entries}
}

// unpackAll reads a tar as any program does.
func unpackAll(t *testing.T, path string) map[string]string {
	t.Helper()
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	out := map[string]string{}
	for r := tar.NewReader(bytes.NewReader(raw)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		require.NoError(t, err)
		body, err := io.ReadAll(r)
		require.NoError(t, err)
		out[strings.TrimPrefix(h.Name, "base/")] = string(body)
	}
}

func TestAlterationsDoWhatTheySay(t *testing.T) {
	const dir = "data/recordings/x/segments/"
	files := [][2]string{
		{bag.CustodyLog, "one\ntwo\nthree\n"}, {dir + "a/0", "short"}, {dir + "b/0", strings.Repeat("x", 600)}, {dir + "b/1", strings.Repeat("y", 512)}, {"last", "end"},
	}
	b := pack(t, files...)
	list, err := b.alterations()
	require.NoError(t, err)
	got := map[string]map[string]string{}
	for _, a := range list {
		path := filepath.Join(t.TempDir(), a.id)
		require.NoError(t, splice(b.path, path, a.pieces...))
		got[a.id] = unpackAll(t, path)
	}
	want := func(edit func(map[string]string)) map[string]string {
		m := map[string]string{}
		for _, f := range files {
			m[f[0]] = f[1]
		}
		edit(m)
		return m
	}
	require.Equal(t, map[string]map[string]string{
		"flipped": want(func(m map[string]string) { m[dir+"b/0"] = strings.Repeat("x", 300) + "y" + strings.Repeat("x", 299) }),
		"removed": want(func(m map[string]string) { delete(m, dir+"b/0") }),
		"cut":     want(func(m map[string]string) { delete(m, dir+"a/0") }),
		"custody": want(func(m map[string]string) { m[bag.CustodyLog] = "one\ntwo\n" }),
	}, got)
	for _, a := range list {
		_, ok := a.found(verify.Report{Findings: []verify.Finding{{Code: a.code, File: a.file}}})
		require.True(t, ok)
		_, ok = a.found(verify.Report{Findings: []verify.Finding{{Code: a.code, File: "another"}, {Code: "another", File: a.file}}})
		require.False(t, ok, "naming another place is not enough")
		_, ok = a.found(verify.Report{OK: true, Findings: []verify.Finding{{Code: a.code, File: a.file}}})
		require.False(t, ok)
	}
	_, err = pack(t, files[0]).alterations()
	require.ErrorContains(t, err, "no segments")
	_, err = pack(t, [2]string{bag.CustodyLog, "one\n"}, files[1]).alterations()
	require.ErrorContains(t, err, "single line")
}

func TestDiffer(t *testing.T) {
	require.Equal(t, -1, differ([]byte("abc"), []byte("abc")))
	require.Equal(t, 1, differ([]byte("abc"), []byte("aXc")))
	require.Equal(t, 2, differ([]byte("ab"), []byte("abc")))
	require.Equal(t, 0, differ(nil, []byte("a")))
}

func TestTheStoryIsPlainText(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		s := newStory(&out, 2)
		s.begin("First")
		s.ok("one\ntwo")
		require.NoError(t, s.during("quick", func() error { return nil }))
		failed := errors.New("failed")
		require.ErrorIs(t, s.during("slow", func() error { time.Sleep(15 * time.Second); return failed }), failed)
		s.bad("three")
		require.Equal(t, "\n[1/2] First\n  ✔ one\n    two\n  … slow\n  … slow, 11s so far\n  ✘ three\n", out.String())
	})
}

func TestUntil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		require.NoError(t, until(t.Context(), time.Minute, "it", func() (bool, error) { return time.Since(began) > 3*time.Second, nil }))
		require.EqualError(t, until(t.Context(), time.Second, "it", func() (bool, error) { return false, nil }), "it: not within 1s")
		broken := errors.New("broken")
		require.ErrorIs(t, until(t.Context(), time.Minute, "it", func() (bool, error) { return false, broken }), broken)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, until(ctx, time.Minute, "it", func() (bool, error) { return false, nil }), context.Canceled)
	})
}

func TestSize(t *testing.T) {
	require.Equal(t, "0 bytes 9999 bytes 10 KiB 1.5 MiB 10 MiB", strings.Join([]string{size(0), size(9999), size(10 << 10), size(3 << 19), size(10 << 20)}, " "))
}

func decodeProbe(t *testing.T, text string) probed {
	t.Helper()
	var p probed
	require.NoError(t, json.Unmarshal([]byte(text), &p))
	return p
}
