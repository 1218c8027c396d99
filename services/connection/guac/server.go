package guac

import "bytes"

// ServerSeen is what the broker must notice in guacd's stream.
type ServerSeen int

// The values of ServerSeen.
const (
	// Plain: anything else; it is passed on unchanged.
	Plain ServerSeen = iota
	// Sync: the end of a frame, with a timestamp.
	Sync
	// Failed: an "error" with its status.
	Failed
	// Gone: guacd's "disconnect".
	Gone
	// Required: guacd waits for the parameters that it names.
	Required
	// Ack: the answer to a blob of a stream.
	Ack
	// Foreign: an instruction that guacd never sends after the handshake. An
	// empty opcode belongs to the tunnel, and the browser would believe it.
	Foreign
	// Joined: somebody else takes part in the session. From version 1.5 guacd says
	// so to the session's owner ("msg"); every version tells a user about the
	// mouse only when another user has moved it (common/cursor.c).
	Joined
)

// See classifies a complete instruction that has passed the Scanner, by its first
// bytes.
func See(raw []byte) ServerSeen {
	switch raw[0] {
	case '0':
		return Foreign
	case '3':
		if Is(raw, "3.ack") {
			return Ack
		}
		if bytes.HasPrefix(raw, []byte("3.msg,1.1,")) { // GUAC_MESSAGE_USER_JOINED
			return Joined
		}
	case '4':
		if Is(raw, "4.sync") {
			return Sync
		}
		if Is(raw, "4.args") {
			return Foreign
		}
	case '5':
		if Is(raw, "5.error") {
			return Failed
		}
		if Is(raw, "5.mouse") {
			return Joined
		}
		if Is(raw, "5.ready") {
			return Foreign
		}
	case '8':
		if Is(raw, "8.required") {
			return Required
		}
	case '1':
		if Is(raw, "10.disconnect") {
			return Gone
		}
	}
	return Plain
}

// SyncTime reads the timestamp of a complete "sync" without parsing it fully:
// milliseconds of guacd's monotonic clock. It returns false if it is malformed.
func SyncTime(raw []byte) (int64, bool) {
	b := raw[min(len(raw), len("4.sync,")):]
	length := 0
	i := 0
	for ; i < len(b) && b[i] >= '0' && b[i] <= '9'; i++ {
		length = length*10 + int(b[i]-'0')
	}
	if i == 0 || i >= len(b) || b[i] != '.' || i+1+length >= len(b) {
		return 0, false
	}
	v, ok := Int(b[i+1 : i+1+length])
	return v, ok && v >= 0
}
