// Package flow counts RTP streams exactly, on the hot path: what a publisher
// handed to its socket ([Sent]), what a subscriber received of it ([Meter]), and
// on which hop each lost packet was lost ([Attribute]).
//
// These words have one meaning here; they follow RFC 3550, RFC 3611 and RFC 3357:
//
//	word        definition                                 how it is detected
//	expected    what the SFU had to deliver: received      highest less lowest sequence number,
//	            plus lost                                  plus 1 (RFC 3550 A.3)
//	received    arrived, duplicates excluded               its sequence number was missing or new
//	lost        expected and not received                  its sequence number is missing at the end
//	loss        consecutive lost packets (a loss period,   a sequence number higher than the next
//	            RFC 3357 4, not RFC 3611's "gap")          one arrives
//	duplicate   arrived again                              its sequence number was received before
//	reordered   received after a higher sequence number,   it fills a loss
//	            without a NACK
//	recovered   received after a NACK asked for it         it fills a loss, and NACKed was called
//	late        received after its frame was counted       see Meter.late
//	discarded   arrived and not counted: it fits no part   far below the highest number, and no
//	            of the sequence                            packet follows it (RFC 3550 A.1)
//	padding     received, without media                    the P bit; in a paused audio stream, no stamp
//	incomplete  a frame that lacks a packet at its marker  a missing number between its packets
//	run         packets whose numbers follow each other:   stamps of one layer without a long pause
//	            one layer, without a long pause
//
// The SFU renumbers packets, so RTP sequence numbers do not tell a subscriber
// which of the publisher's packets it received. The load generator's publishers
// therefore put a [Stamp] on every packet, in a header extension that SFUs forward
// and SRTP leaves unencrypted (RFC 3711 3.1): when the packet was due, and the low
// bits of its number on its layer.
//
// Some losses leave no trace at a subscriber and are not counted: packets sent
// before the first packet that it received of an audio stream, padding that the
// SFU sent after the last packet, a whole simulcast layer between two switches. If
// a subscriber is alone on a layer, and its subscription begins or ends within the
// packets that one report of the SFU covers, the number of packets lost before the
// SFU is right for the publication, but how many of them that subscriber should
// have received is unknown: as many as it lost in that range are attributed.
//
// Nothing in this package locks. A [Meter] or a [Sent] belongs to the holder of
// its shard's lock: the hot path takes that lock once per batch of packets, and
// [Meter.Snapshot] is called under it too.
package flow
