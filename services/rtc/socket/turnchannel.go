package socket

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync"

	"github.com/pion/stun/v3"
)

// channelTable learns from the messages of pion's TURN client which channel is bound to
// which peer, so that media can be sent without the client. A channel counts as bound
// once the client sends through it, which it does after the server has confirmed.
type channelTable struct {
	mu    sync.Mutex
	asked map[uint16]netip.AddrPort // requested and not yet bound
	bound map[netip.AddrPort]channel
}

// channel is a bound TURN channel.
type channel struct {
	number uint16
	server netip.AddrPort // the TURN server; zero on a turnConn
}

// channelBind is the message type of a ChannelBind request (RFC 8656 section 12).
const channelBind = 0x0009

// sent observes a message to the server.
func (t *channelTable) sent(b []byte, server netip.AddrPort) {
	if len(b) < channelHeader {
		return
	}
	switch head := binary.BigEndian.Uint16(b); {
	case head == channelBind && stun.IsMessage(b):
		t.ask(b)
	case head >= 0x4000 && head <= 0x4fff: // RFC 8656 section 12: channel numbers
		t.mu.Lock()
		defer t.mu.Unlock()
		if peer, ok := t.asked[head]; ok {
			if t.bound == nil {
				t.bound = map[netip.AddrPort]channel{}
			}
			t.bound[peer] = channel{head, server}
			delete(t.asked, head)
		}
	}
}

// ask notes the channel that a ChannelBind request asks for.
func (t *channelTable) ask(b []byte) {
	m := &stun.Message{Raw: b}
	if m.Decode() != nil {
		return
	}
	number, err := m.Get(stun.AttrChannelNumber)
	var peer stun.XORMappedAddress
	if err != nil || len(number) < 2 || peer.GetFromAs(m, stun.AttrXORPeerAddress) != nil {
		return
	}
	ip, ok := netip.AddrFromSlice(peer.IP)
	if !ok {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.asked == nil {
		t.asked = map[uint16]netip.AddrPort{}
	}
	n := binary.BigEndian.Uint16(number)
	for _, known := range t.bound {
		if known.number == n {
			return // a refresh
		}
	}
	t.asked[n] = netip.AddrPortFrom(ip.Unmap(), uint16(peer.Port))
}

// to returns the channel that is bound to a peer.
func (t *channelTable) to(peer net.Addr) (channel, bool) {
	udp, ok := peer.(*net.UDPAddr)
	if !ok {
		return channel{}, false
	}
	a := udp.AddrPort()
	t.mu.Lock()
	defer t.mu.Unlock()
	n, ok := t.bound[netip.AddrPortFrom(a.Addr().Unmap(), a.Port())]
	return n, ok
}
