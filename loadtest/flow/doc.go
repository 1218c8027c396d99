// Package flow counts RTP streams, exactly and on the hot path: what a
// publisher handed to its socket ([Sent]), what a subscriber got of it
// ([Meter]), and on which hop each missing packet was lost ([Settle]).
//
// The SFU renumbers packets, so a subscriber cannot tell by RTP sequence
// numbers which packet of the publisher it got. Our publishers therefore put
// a [Stamp] on every packet, in a header extension that SFUs forward and that
// SRTP leaves in clear (RFC 3711 3.1): when the packet was due, and the low
// bits of its number on its layer.
//
// Some losses leave no trace that a subscriber could see: what was sent before
// the first packet that it got of an audio stream, padding of the SFU's behind
// the last packet, a whole simulcast layer between two switches. They are not
// counted. And where a subscriber begins or ends in the middle of what one
// report of the SFU covers, alone on its layer, the number lost before the SFU
// is right for the publication, but how many of them were meant for that
// subscriber cannot be known to the packet: as many as it missed there are
// taken to be.
//
// Nothing in here locks. A [Meter] and a [Sent] belong to whoever holds the
// lock of the shard that they are in: the hot path takes that lock once per
// batch of packets, and [Meter.Snapshot] is called under it too.
package flow
