package socket

import "sync/atomic"

// Stats counts what all sockets of a [Reactor] did. Each field only grows.
type Stats struct {
	Reads       atomic.Int64 // recvmmsg and TCP reads that returned something
	EmptyReads  atomic.Int64 // recvmmsg calls that returned nothing
	Grouped     atomic.Int64 // sockets that were moved to reading every Config.Gather
	Media       atomic.Int64 // RTP packets received
	Control     atomic.Int64 // other datagrams received
	Sends       atomic.Int64 // system calls that sent media
	SentMedia   atomic.Int64 // RTP packets sent
	SendErrors  atomic.Int64 // RTP packets that could not be sent
	SocketDrops atomic.Int64 // datagrams that the kernel dropped because a buffer was full
	QueueDrops  atomic.Int64 // datagrams that the queue to pion refused because it was full
	Truncated   atomic.Int64 // datagrams longer than 2,048 bytes; dropped
}
