package guac

// ServerSeen is what the broker must notice in guacd's stream. Everything
// else goes through untouched.
type ServerSeen int

// What was seen.
const (
	// Plain: nothing that concerns the broker.
	Plain ServerSeen = iota
	// Sync: a frame ended; the instruction has its timestamp.
	Sync
	// Failed: an "error" with its status.
	Failed
	// Gone: guacd's "disconnect".
	Gone
	// Required: guacd waits for parameters, which it names.
	Required
	// Ack: an answer to a stream.
	Ack
	// Foreign: an instruction that guacd never sends after the handshake; an
	// empty opcode belongs to the tunnel alone and would be believed by the
	// browser.
	Foreign
)

// See sorts a complete instruction as the Scanner found it, by its first
// bytes.
func See(raw []byte) ServerSeen {
	switch raw[0] {
	case '0':
		return Foreign
	case '3':
		if Is(raw, "3.ack") {
			return Ack
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

// SyncTime reads the timestamp of a complete "sync" without a full parse:
// milliseconds of guacd's own monotonic clock.
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
