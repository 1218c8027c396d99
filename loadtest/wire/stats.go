package wire

import "sync/atomic"

// Stats count what all sockets of a [Reactor] did. Each field only grows.
type Stats struct {
	Reads       atomic.Int64 // recvmmsg and TCP reads that brought something
	EmptyReads  atomic.Int64
	Grouped     atomic.Int64 // sockets that are, or were, read in groups
	Media       atomic.Int64 // RTP packets received
	Control     atomic.Int64 // other datagrams received
	Sends       atomic.Int64 // system calls that sent media
	SentMedia   atomic.Int64 // RTP packets sent
	SendErrors  atomic.Int64 // RTP packets that could not be sent
	SocketDrops atomic.Int64 // datagrams that the kernel dropped since a buffer was full
	QueueDrops  atomic.Int64 // datagrams that a full queue of ours refused
	Truncated   atomic.Int64 // datagrams longer than any MTU; dropped
}
