package socket

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/pion/logging"
	"github.com/pion/transport/v4/stdnet"
	"github.com/pion/turn/v4"
	"github.com/stretchr/testify/require"
)

// turnServer is pion's TURN server, of which STUNner is made, over UDP and TCP.
func turnServer(t *testing.T) (udp, tcp net.Addr) {
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	relay := &turn.RelayAddressGeneratorStatic{RelayAddress: net.IPv4(127, 0, 0, 1), Address: "127.0.0.1"}
	quiet := logging.NewDefaultLoggerFactory()
	quiet.DefaultLogLevel = logging.LogLevelDisabled
	s, err := turn.NewServer(turn.ServerConfig{
		Realm: "test", LoggerFactory: quiet,
		AuthHandler: func(user, realm string, _ net.Addr) ([]byte, bool) {
			return turn.GenerateAuthKey(user, realm, "secret"), true
		},
		PacketConnConfigs: []turn.PacketConnConfig{{PacketConn: pc, RelayAddressGenerator: relay}},
		ListenerConfigs:   []turn.ListenerConfig{{Listener: l, RelayAddressGenerator: relay}},
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return pc.LocalAddr(), l.Addr()
}

// TestTURN: through pion's TURN server, with pion's client for control messages and
// bursts for the media: both ways, over UDP and TCP.
func TestTURN(t *testing.T) {
	udp, tcp := turnServer(t)
	for _, proto := range []string{"udp", "tcp"} {
		t.Run(proto, func(t *testing.T) {
			r := running(t, 2*time.Millisecond)
			sink := new(taken)
			host, err := stdnet.NewNet()
			require.NoError(t, err)
			cfg := NetConfig{Host: host, Local: loopback, Sink: sink}
			if proto == "tcp" {
				cfg.TURNServer = tcp.String()
			}
			n := r.Net(cfg)
			conn, err := n.ListenPacket("udp4", "0.0.0.0:0")
			require.NoError(t, err)
			defer func() { require.NoError(t, conn.Close()) }()
			// For the client it is UDP in any case; a stream does not look at where
			// it is to send to.
			server := udp
			if proto == "tcp" {
				server = conn.(*turnConn).conn.RemoteAddr()
				server = &net.UDPAddr{IP: loopback.AsSlice(), Port: server.(*net.TCPAddr).Port}
			}
			quiet := logging.NewDefaultLoggerFactory()
			quiet.DefaultLogLevel = logging.LogLevelDisabled
			client, err := turn.NewClient(&turn.ClientConfig{
				STUNServerAddr: server.String(), TURNServerAddr: server.String(), Conn: conn, Username: "u", Password: "secret", Net: n, LoggerFactory: quiet,
			})
			require.NoError(t, err)
			defer client.Close()
			require.NoError(t, client.Listen())
			relayed, err := client.Allocate()
			require.NoError(t, err)
			defer func() { require.NoError(t, relayed.Close()) }()

			peer := other(t)
			var d *Dest
			// pion sends Data indications until its channel is bound.
			control, dtls := 0, []byte{22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 5}
			require.Eventually(t, func() bool {
				_, err := relayed.WriteTo(dtls, peer.LocalAddr())
				require.NoError(t, err)
				control++
				d, err = n.Relayed(peer.LocalAddr())
				return err == nil
			}, patience, 5*time.Millisecond)
			for _, b := range datagrams(t, peer, control) {
				require.Equal(t, dtls, b)
			}
			b := new(Burst)
			out := append(numbered(20, 1101), packet(20, 33))
			fill(t, b, d, out)
			failed, err := b.Send(d)
			require.NoError(t, err)
			require.Empty(t, failed)
			require.ElementsMatch(t, out, datagrams(t, peer, len(out))) // STUNner's sockets may reorder

			// Back: media to the sink, the rest to pion.
			for i := range 30 {
				_, err := peer.WriteTo(packet(i, 300+i), relayed.LocalAddr())
				require.NoError(t, err)
			}
			_, err = peer.WriteTo([]byte{22, 9, 9}, relayed.LocalAddr())
			require.NoError(t, err)
			buf := make([]byte, 100)
			require.NoError(t, relayed.SetReadDeadline(time.Now().Add(patience)))
			k, from, err := relayed.ReadFrom(buf)
			require.NoError(t, err)
			require.Equal(t, []byte{22, 9, 9}, buf[:k])
			require.Equal(t, peer.LocalAddr().String(), from.String())
			got := map[string]bool{}
			for _, p := range sink.await(t, 30) {
				require.Equal(t, proto == "udp", p.Kernel)
				got[fmt.Sprintf("%x", p.Bytes)] = true
			}
			for i := range 30 {
				require.True(t, got[fmt.Sprintf("%x", packet(i, 300+i))], i)
			}
			require.EqualValues(t, 30, r.Media.Load())
		})
	}
}
