// Package rtc puts participants into a LiveKit room without a PeerConnection: a
// [Publisher] or a [Subscriber] has one WebRTC transport, made of pion's ICE (RFC
// 8445), DTLS-SRTP (RFC 5764) and SCTP for data channels (RFC 8831, RFC 8832), all
// multiplexed on one candidate pair (RFC 7983, RFC 5761).
//
// What a PeerConnection does once per packet is done once per frame, or left to
// the caller:
//
//   - A subscriber gives received RTP to a socket.Sink, encrypted, with the kernel's
//     arrival time, in the goroutine that read it from the socket. The headers can be
//     read as they are; [Subscriber.Decrypter] decrypts the payload.
//   - A publisher's caller writes a frame's packets into one socket.Burst, encrypts
//     each in place with an [Encrypter] and sends the burst with one system call to
//     the socket.Dest that [PublisherConfig].OnDest was given.
//
// Pacing, retransmission, reports and statistics belong to the caller, who gets
// RTCP through OnRTCP and sends it with WriteRTCP.
//
// All participants of a process share one [Engine]: the reader of all sockets and
// one certificate. A participant reaches LiveKit directly or through a TURN server
// over UDP, TCP or TLS (RFC 8656), always from the one local address of [Config].
// Linux only; the SDP is LiveKit's dialect only.
package rtc
