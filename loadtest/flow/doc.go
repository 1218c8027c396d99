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
// Nothing in here locks. A [Meter] and a [Sent] belong to whoever holds the
// lock of the shard that they are in: the hot path takes that lock once per
// batch of packets, and [Meter.Snapshot] is called under it too.
package flow
