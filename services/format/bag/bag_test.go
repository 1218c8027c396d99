package bag_test

import (
	"bytes"
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/format/bag"
	"github.com/openova-io/bp-relay/services/format/leaf"
)

const id = "0198c0de-0000-7000-8000-000000000001"

func line(t testing.TB, detail any) []byte {
	t.Helper()
	l, err := leaf.New(id, leaf.Act{Type: "room.created", Org: "acme", Actor: "a <b>", Subject: "orgs/acme/rooms/r", Detail: detail})
	require.NoError(t, err)
	l.Index = 7
	out, err := bag.EncodeLine(l)
	require.NoError(t, err)
	return out
}

// Every byte of a custody line has a meaning.
func TestNoByteOfACustodyLineCanChange(t *testing.T) {
	text := line(t, map[string]any{"x": "é\u2028\"", "n": 1.5})
	want, err := bag.ParseLine(text)
	require.NoError(t, err)
	for i := range text {
		bad := bytes.Clone(text)
		bad[i] ^= 1
		got, err := bag.ParseLine(bad)
		if err == nil { // the proof covers index and body
			require.True(t, got.Index != 7 || got.Body != want.Body, "byte %d of %s", i, bad)
		}
	}
}

// A line without an opening has type, time and index, and states the erasure.
func TestAnErasedEntryIsStillALine(t *testing.T) {
	l, err := leaf.New(id, leaf.Act{Type: "room.created", Org: "acme", Actor: "alice", Subject: "orgs/acme/rooms/r"})
	require.NoError(t, err)
	l.Index, l.Opening = 3, nil
	text, err := bag.EncodeLine(l)
	require.NoError(t, err)
	require.NotContains(t, string(text), "alice")
	got, err := bag.ParseLine(text)
	require.NoError(t, err)
	require.True(t, got.Readable.Erased)
	require.Equal(t, "room.created", got.Readable.Type)

	other, err := leaf.New(id, leaf.Act{Type: "room.created", Org: "acme", Actor: "bob", Subject: "orgs/acme/rooms/r"})
	require.NoError(t, err)
	l.Opening = other.Opening
	_, err = bag.EncodeLine(l)
	require.ErrorIs(t, err, leaf.ErrMismatch)
}

func TestPathsInListsComeBack(t *testing.T) {
	for _, name := range []string{"data/a", "data/100%", "data/a%0Ab", "data/a\nb\rc", "data/%25"} {
		require.Equal(t, name, bag.DecodePath(bag.EncodePath(name)))
		require.NotContains(t, bag.EncodePath(name), "\n")
	}
}

func FuzzParseLine(f *testing.F) {
	f.Add(line(f, nil))
	f.Add([]byte(`{"index":0,"body":"{}","readable":{}}` + "\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := bag.ParseLine(text)
		if err == nil {
			_, _, err := leaf.Open([]byte(l.Body), []byte(l.Opening))
			require.NoError(t, err)
		}
	})
}

func FuzzSafeName(f *testing.F) {
	for _, s := range []string{"data/a", "../x", "a/../../b", "/etc", "~a", "a\\b", "c:", ".", "", "a//b", "data/\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if !bag.SafeName(name) {
			return
		}
		joined := path.Join("/bag", name)
		require.True(t, strings.HasPrefix(joined, "/bag/"), "%q leads out of the bag", name)
		require.Equal(t, name, bag.DecodePath(bag.EncodePath(name)))
		require.Less(t, bag.Phase(name), bag.Phases)
	})
}
