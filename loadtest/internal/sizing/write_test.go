package sizing_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/loadtest/internal/sizing"
)

func TestDocument(t *testing.T) {
	d := swept(t, nil)
	before := document(t)
	after, err := sizing.Insert(before, d.Fragments())
	require.NoError(t, err)
	require.Contains(t, after, "| sfu | sends to subscribers | 250 | 50,000 | 0.4 | 2.5 |")
	require.Contains(t, after, "22 runs of 8 s each")
	require.Contains(t, after, "| 10,000 | direct | 100 |")
	require.NotContains(t, after, "Not measured")
	again, err := sizing.Insert(after, d.Fragments())
	require.NoError(t, err)
	require.Equal(t, after, again)
	require.Equal(t, prose(before), prose(after), "the prose stays")
	// Every row of a table has as many cells as its head.
	cells := 0
	for line := range strings.SplitSeq(after, "\n") {
		n := strings.Count(line, "|") - strings.Count(line, `\|`)
		if !strings.HasPrefix(line, "|") {
			cells = 0
			continue
		}
		if cells == 0 {
			cells = n
		}
		require.Equal(t, cells, n, line)
	}
	// The document shows exactly the pictures that are drawn.
	pictures, err := d.Pictures()
	require.NoError(t, err)
	require.Equal(t, len(pictures), strings.Count(after, "](pictures/sizing-"))
	for name := range pictures {
		require.Contains(t, after, "](pictures/"+name+")")
	}
}

// prose returns a document without the text between markers.
func prose(doc string) string {
	var b strings.Builder
	inside := false
	for line := range strings.SplitSeq(doc, "\n") {
		if strings.HasPrefix(line, "<!-- sizing:") {
			inside = strings.HasSuffix(line, "begin -->")
		}
		if !inside {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

func TestMarkers(t *testing.T) {
	const begin, end = "<!-- sizing: a begin -->", "<!-- sizing: a end -->"
	const other = "<!-- sizing: b begin -->\n<!-- sizing: b end -->"
	got, err := sizing.Insert("x\n"+begin+"\nold\n"+end+"\ny", map[string]string{"a": "\nnew\n\n"})
	require.NoError(t, err)
	require.Equal(t, "x\n"+begin+"\nnew\n"+end+"\ny", got)
	for name, doc := range map[string]string{
		"none": "", "no end": begin, "twice": begin + end + begin + end, "end first": end + begin,
		"one inside the other": begin + "\n" + other + "\n" + end, "crossed": begin + "<!-- sizing: b begin -->" + end + "<!-- sizing: b end -->",
	} {
		_, err := sizing.Insert(doc, map[string]string{"a": "A", "b": "B"})
		require.ErrorIs(t, err, sizing.ErrMarkers, name)
	}
}

func TestPictures(t *testing.T) {
	d := swept(t, func(c *sizing.Config) { c.Run = breaking(200, result.Inconclusive, "late") })
	pictures, err := d.Pictures()
	require.NoError(t, err)
	require.Len(t, pictures, 6)
	for name, svg := range pictures {
		dec := xml.NewDecoder(bytes.NewReader(svg))
		for {
			_, err := dec.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err, name)
		}
		text := string(svg)
		require.True(t, strings.HasPrefix(text, `<svg xmlns="http://www.w3.org/2000/svg"`), name)
		require.Contains(t, text, "prefers-color-scheme:dark", name)
		require.NotContains(t, text, "data-lines", name)
		require.NotContains(t, text, "NaN", name)
	}
	require.Contains(t, string(pictures["sizing-direct.svg"]), "did not pass", "320 subscribers are marked")
	require.NotContains(t, string(pictures["sizing-turn.svg"]), "did not pass", "160 were the most")
}

// A written file reads back to the same document.
func TestJSON(t *testing.T) {
	d := swept(t, func(c *sizing.Config) { c.Run = breaking(100, result.Fail, "a | b\n<!-- sizing: cores end -->") })
	raw := written(t, d)
	back, err := sizing.Read(bytes.NewReader(raw))
	require.NoError(t, err)
	require.Equal(t, string(raw), string(written(t, back)))
	require.Equal(t, d.Fragments(), back.Fragments())
	_, err = sizing.Insert(document(t), d.Fragments())
	require.NoError(t, err, "no reason of a run reads as a marker")

	for _, text := range []string{"", "{}", `{"schema":"other"}`, `{"schema":"` + sizing.Schema + `","colour":1}`} {
		_, err := sizing.Read(strings.NewReader(text))
		require.ErrorIs(t, err, sizing.ErrData, text)
	}
}

// FuzzRead: any file becomes a document and pictures, or ErrData.
func FuzzRead(f *testing.F) {
	f.Add(written(f, swept(f, func(c *sizing.Config) { // a short one: long inputs are slow to minimize
		c.Series = []sizing.Series{{Name: sizing.SeriesDirect, Sizes: []int{10}}}
	})))
	f.Add([]byte(`{"schema":"` + sizing.Schema + `","points":[{"series":"direct","sfu":{"cores":1e308},"busy":null}],"cores":[{}],"plans":[{}]}`))
	doc := document(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		d, err := sizing.Read(bytes.NewReader(raw))
		if err != nil {
			require.ErrorIs(t, err, sizing.ErrData)
			return
		}
		after, err := sizing.Insert(doc, d.Fragments())
		require.NoError(t, err)
		again, err := sizing.Insert(after, d.Fragments())
		require.NoError(t, err)
		require.Equal(t, after, again)
		_, err = d.Pictures()
		require.NoError(t, err)
	})
}

// FuzzInsert: a document keeps everything outside its markers.
func FuzzInsert(f *testing.F) {
	f.Add("x <!-- sizing: a begin -->\nold\n<!-- sizing: a end --> y")
	f.Add("<!-- sizing: b begin --><!-- sizing: a begin --><!-- sizing: b end --><!-- sizing: a end -->")
	f.Fuzz(func(t *testing.T, doc string) {
		after, err := sizing.Insert(doc, map[string]string{"a": "A", "b": "B"})
		if err != nil {
			require.ErrorIs(t, err, sizing.ErrMarkers)
			return
		}
		again, err := sizing.Insert(after, map[string]string{"a": "A", "b": "B"})
		require.NoError(t, err)
		require.Equal(t, after, again)
	})
}
