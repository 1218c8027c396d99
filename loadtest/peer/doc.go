// Package peer is a participant of a LiveKit room as the load generator needs
// one: a publisher or a subscriber with one WebRTC transport, put together from
// pion's ICE, DTLS, SRTP and SCTP without a PeerConnection around them.
//
// What a PeerConnection would do per packet is done here once per burst or not at
// all: a subscriber reads the headers of what it gets, in the goroutine that took
// it off the socket, and decrypts only where it is a witness; a publisher
// encrypts a frame's packets into one buffer and hands it to the kernel at once.
// All participants share one certificate and one sender report clock, and a
// subscriber opens no transport for publishing, nor the other way round.
package peer
