// Package socket gives WebRTC participants their network: UDP sockets and TURN
// connections that many participants share one reader for.
//
// [Reactor.Net] returns a transport.Net for pion's ICE agent, whose sockets look
// like any other. ICE, DTLS, SRTCP and TURN's control messages go through them to
// pion. RTP does not: the reader takes all datagrams that wait on a socket with one
// recvmmsg(2) and hands RTP, also from inside TURN's ChannelData (RFC 8656
// section 12.4), to the participant's [Sink], still encrypted. A new socket is read
// as soon as a datagram arrives, so that joining is fast. A socket with media flowing
// is read every [Config].Gather, so that a whole frame costs one system call; the
// arrival time of each packet stays exact, because the kernel takes it
// (SO_TIMESTAMPNS).
//
// A [Burst] sends one frame's packets to a [Dest]: with one sendmsg(2) and
// UDP_SEGMENT where the packets' sizes allow it, else with one sendmmsg(2).
//
// Every loss on this host is counted in [Stats]: datagrams that the kernel dropped
// because a socket's buffer was full (SO_RXQ_OVFL), datagrams that pion's queue
// refused, and packets that could not be sent.
package socket
