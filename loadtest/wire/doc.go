// Package wire is the generator's way to the network: sockets that many
// participants share one reader for.
//
// pion keeps its part (ICE, DTLS, SRTCP, TURN's control) and gets a
// transport.Net whose sockets look like any other. What it never sees is media:
// the reader takes every datagram that waits on a socket with one recvmmsg(2),
// keeps RTP, also inside of TURN's ChannelData, for a [Sink], and gives the rest
// to pion. A socket that is new is read at once, so that joining is fast; one
// on which media flows is read some milliseconds after the first packet came,
// so that a whole frame takes one system call. That costs no accuracy: the time
// of each packet is the kernel's (SO_TIMESTAMPNS), taken when it arrived.
//
// Sending is the same thing backwards: a frame is one sendmsg(2) with
// UDP_SEGMENT where its packets allow it, else one sendmmsg(2).
//
// Nothing is lost here without being counted: what the kernel drops since a
// socket's buffer is full (SO_RXQ_OVFL), what a queue to pion refuses, and each
// send that fails is in [Stats].
package wire
