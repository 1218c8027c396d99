package rtc

import (
	"crypto/tls"
	"testing"

	"github.com/pion/stun/v3"
	"github.com/stretchr/testify/require"
)

func TestTURNPath(t *testing.T) {
	for url, want := range map[string]string{
		"turn:example.com":                      TURNUDP,
		"turn:example.com:3478":                 TURNUDP,
		"turn:example.com:3478?transport=udp":   TURNUDP,
		"turn:192.0.2.1?transport=tcp":          TURNTCP,
		"turn:[2001:db8::1]:3478?transport=tcp": TURNTCP,
		"turns:example.com":                     TURNTLS,
		"turns:example.com:443?transport=tcp":   TURNTLS,
		"turns:example.com:5349?transport=udp":  "", // DTLS
		"stun:example.com":                      "",
		"stuns:example.com":                     "",
		"turn:example.com?transport=sctp":       "",
		"turn:":                                 "",
		"https://example.com":                   "",
		"":                                      "",
	} {
		require.Equal(t, want, TURNPath(url), url)
		u, err := TURN{URL: url, Username: "u", Credential: "c"}.uri()
		host, herr := TURNHost(url)
		if want == "" {
			require.ErrorIs(t, err, ErrTURN, url)
			continue
		}
		require.NoError(t, err)
		require.NoError(t, herr)
		require.Equal(t, host, u.Host)
		require.Equal(t, stun.SchemeTypeTURN, u.Scheme, "ICE gets plain TURN")
		require.Equal(t, stun.ProtoTypeUDP, u.Proto)
		require.Equal(t, "u", u.Username)
		require.Equal(t, "c", u.Password)
	}
	u, err := TURN{URL: "turns:example.com"}.uri()
	require.NoError(t, err)
	require.Equal(t, 5349, u.Port, "RFC 7065")
	_, err = TURNHost("turn:")
	require.ErrorIs(t, err, ErrTURN)
}

func TestPairIs(t *testing.T) {
	for _, tc := range []struct {
		pair Pair
		path string // "": none
		kind string
	}{
		{Pair{Local: "host", Remote: "host"}, Direct, "host -> host"},
		{Pair{Local: "srflx", Remote: "host"}, Direct, "srflx -> host"},
		{Pair{Local: "prflx", Remote: "relay"}, Direct, "prflx -> relay"},
		{Pair{Local: "relay", Remote: "host", Relay: "udp"}, TURNUDP, "relay/udp -> host"},
		{Pair{Local: "relay", Remote: "prflx", Relay: "tcp"}, TURNTCP, "relay/tcp -> prflx"},
		{Pair{Local: "relay", Remote: "host", Relay: "tls"}, TURNTLS, "relay/tls -> host"},
		{Pair{Local: "relay", Remote: "host"}, "", "relay -> host"},
	} {
		require.Equal(t, tc.kind, tc.pair.Kind())
		for _, path := range []string{Direct, TURNUDP, TURNTCP, TURNTLS, ""} {
			require.Equal(t, tc.path == path && path != "", tc.pair.Is(path), "%s is %s", tc.kind, path)
		}
	}
}

func TestCheck(t *testing.T) {
	c := Config{Path: TURNTLS, TURN: TURN{URL: "turns:example.com:443"}}
	require.NoError(t, c.check())
	require.Equal(t, "example.com", c.TLS.ServerName)
	given := &tls.Config{ServerName: "other"}
	c.TLS = given
	require.NoError(t, c.check())
	require.Same(t, given, c.TLS)
	c = Config{Path: TURNTCP, TURN: TURN{URL: "turn:example.com?transport=tcp"}, TLS: given}
	require.NoError(t, c.check())
	require.Nil(t, c.TLS, "not for a path without TLS")
	c = Config{Path: Direct}
	require.NoError(t, c.check())
	for _, c := range []Config{
		{Path: TURNUDP}, {Path: TURNUDP, TURN: TURN{URL: "turn:example.com?transport=tcp"}}, {Path: TURNTLS, TURN: TURN{URL: "turn:example.com?transport=tcp"}},
		{Path: "carrier-pigeon", TURN: TURN{URL: "turn:example.com"}}, {},
	} {
		require.ErrorIs(t, c.check(), ErrTURN)
	}
}

func TestLocalAddr(t *testing.T) {
	a, err := LocalAddr("127.0.0.1")
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1", a.String())
	_, err = LocalAddr("not an address")
	require.Error(t, err)
}
