package tunnelload_test

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/tunnelload"
)

const recorded = "../../../services/dev/demo/screen/testdata/terminal.guac"

func TestReadRecording(t *testing.T) {
	raw, err := os.ReadFile(recorded)
	require.NoError(t, err)
	r, err := tunnelload.Read(bytes.NewReader(raw))
	require.NoError(t, err)
	require.Equal(t, 16, r.Frames())
	require.Equal(t, 1, r.Dropped, "relay's last instruction, which would end the session")
	require.Greater(t, r.Length(), 3862*time.Millisecond, "from sync 4998179 to sync 5002041")
	require.Less(t, r.Length(), 5*time.Second)

	cut, err := tunnelload.Read(bytes.NewReader(raw[:len(raw)/2]))
	require.NoError(t, err, "a file left by a killed process")
	require.Less(t, cut.Frames(), 16)
}

func TestReadRefuses(t *testing.T) {
	for what, text := range map[string]string{
		"no sync":                "",
		"after 0 bytes":          "hello",
		"after 13 bytes":         "4.sync,3.100;x",
		"a sync without a time":  "4.sync,2.xx;",
		"a sync without a time ": "4.sync;",
	} {
		_, err := tunnelload.Read(strings.NewReader(text))
		require.ErrorIs(t, err, tunnelload.ErrReplay, text)
		require.ErrorContains(t, err, strings.TrimSpace(what), text)
	}
}

// Any file is refused, or yields frames and a duration above 0.
func FuzzRead(f *testing.F) {
	raw, err := os.ReadFile(recorded)
	require.NoError(f, err)
	f.Add(raw[:2000])
	f.Add([]byte("4.sync,3.100;4.rect,1.0,1.0,1.0,1.1,1.1;4.sync,18.999999999999999999;4.sync,1.1;"))
	f.Add([]byte("4.sync,1.1,1.7;0.,4.ping;5.error,1.x,3.523;"))
	f.Fuzz(func(t *testing.T, p []byte) {
		r, err := tunnelload.Read(bytes.NewReader(p))
		if err != nil {
			require.ErrorIs(t, err, tunnelload.ErrReplay)
			return
		}
		require.Positive(t, r.Frames())
		require.Positive(t, r.Length())
	})
}
