package turn

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParsePeer(t *testing.T) {
	for in, want := range map[string]Peer{
		"127.0.0.1:7882-7882":           {netip.MustParseAddr("127.0.0.1"), 7882, 7882},
		"127.0.0.1:7882":                {netip.MustParseAddr("127.0.0.1"), 7882, 7882},
		"10.0.0.7:50000-60000":          {netip.MustParseAddr("10.0.0.7"), 50000, 60000},
		"[2001:db8::7]:50000-60000":     {netip.MustParseAddr("2001:db8::7"), 50000, 60000},
		"[::ffff:10.0.0.7]:50000-60000": {netip.MustParseAddr("10.0.0.7"), 50000, 60000},
	} {
		got, err := ParsePeer(in)
		require.NoError(t, err, in)
		require.Equal(t, want, got, in)
	}
	for _, in := range []string{"", "10.0.0.7", "10.0.0.7:", "10.0.0.7:0-1", "10.0.0.7:2-1", "10.0.0.7:1-65536", "10.0.0.0/24:1-2", "sfu:1-2",
		"2001:db8::7:50000", "[10.0.0.7]:1-2", "10.0.0.7:1-2-3", "10.0.0.7:+1-2", "10.0.0.7:<1-2>", "$SFU:1-2"} {
		_, err := ParsePeer(in)
		require.ErrorIs(t, err, ErrGateway, in)
	}
}

func FuzzParsePeer(f *testing.F) {
	for _, s := range []string{"127.0.0.1:7882-7882", "[2001:db8::7]:1-2", "[::ffff:1.2.3.4]:5", "[fe80::1%eth0]:1-2", "x", ":"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePeer(s)
		if err != nil {
			require.ErrorIs(t, err, ErrGateway)
			return
		}
		again, err := ParsePeer(p.String())
		require.NoError(t, err)
		require.Equal(t, p, again)
	})
}
