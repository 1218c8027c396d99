package recordload

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/media/webm"
)

// file is the sink of relay's recorder.
type file struct{ bytes.Buffer }

func (f *file) Append(p []byte) error {
	_, err := f.Write(p)
	return err
}

// written returns a file of relay's writer with n packets.
func written(t testing.TB, n int) []byte {
	var f file
	w, err := webm.New(&f, webm.Config{Track: webm.Track{Codec: webm.Opus}, Start: time.Unix(1e9, 0)})
	require.NoError(t, err)
	for i := range n {
		require.NoError(t, w.Write(time.Duration(i)*20*time.Millisecond, true, bytes.Repeat([]byte{0xA3}, 10+i)))
	}
	return f.Bytes()
}

func TestBlocksAreCounted(t *testing.T) {
	for _, n := range []int{0, 1, 500} {
		got, err := blocks(bytes.NewReader(written(t, n)))
		require.NoError(t, err)
		require.EqualValues(t, n, got)
	}
	whole := written(t, 3)
	_, err := blocks(bytes.NewReader(whole[:len(whole)-1]))
	require.ErrorIs(t, err, errWebM, "cut")
	for _, junk := range [][]byte{nil, []byte("RIFF"), {0x1A, 0x45, 0xDF, 0xA3, 0xFF}, {0}} {
		_, err := blocks(bytes.NewReader(junk))
		require.ErrorIs(t, err, errWebM)
	}
}

// A block takes at least two bytes.
func FuzzBlocks(f *testing.F) {
	f.Add(written(f, 2))
	f.Add([]byte{0x1A, 0x45, 0xDF, 0xA3, 0x80, 0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF})
	f.Fuzz(func(t *testing.T, p []byte) {
		n, err := blocks(bytes.NewReader(p))
		if err != nil {
			require.ErrorIs(t, err, errWebM)
		}
		require.LessOrEqual(t, n, int64(len(p)/2))
	})
}
