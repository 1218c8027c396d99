package guac

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
)

// Verdict is what to do with an instruction.
type Verdict int

// The verdicts.
const (
	// Refuse: the session must end; it comes with an error.
	Refuse Verdict = iota
	// Forward it to the other side.
	Forward
	// Drop: it is fine but means nothing to the other side ("nop").
	Drop
	// Ping: a tunnel ping, to be echoed with its arguments.
	Ping
	// Disconnect: forward it, then the session is over.
	Disconnect
)

// Refusal says why an instruction was not let through. It names the opcode
// where that is a known one, never a value.
type Refusal struct {
	Opcode string
	Why    string
	Status Status
}

func (e *Refusal) Error() string {
	return fmt.Sprintf("guac: %s refused: %s", strconv.Quote(e.Opcode), e.Why)
}

// form is how one argument must look.
type form = byte

const (
	text     form = 't' // anything without NUL
	integer  form = 'i' // what atoi reads, within a C int
	unsigned form = 'u' // the same, not negative
	stamp    form = 's' // a timestamp: not negative, 64 bits
	boolean  form = 'b' // 0 or 1
	decimal  form = 'd' // what atof reads, as JavaScript writes it
	base64   form = '6' // RFC 4648 section 4, padded
	mimetype form = 'm' // type/subtype, no control characters
)

// clientOpcodes is everything a browser may send to guacd, with the forms of
// its exact arguments: guacd's handlers read argv without looking at argc
// (user-handlers.c). "pipe" is not in it: it is an unrecorded second input
// (STDIN redirection); nor are the handshake's own and "usb*".
func clientOpcodes(opcode []byte) (forms string, known bool) {
	switch string(opcode) {
	case "sync":
		return "s", true
	case "mouse":
		return "iiu", true
	case "key":
		return "ub", true
	case "touch":
		return "iiiiidd", true
	case "size":
		return "uu", true
	case "clipboard", "audio":
		return "um", true
	case "file", "argv":
		return "umt", true
	case "put":
		return "uumt", true
	case "get":
		return "ut", true
	case "blob":
		return "u6", true
	case "end":
		return "u", true
	case "ack":
		return "utu", true
	case "nop", "disconnect":
		return "", true
	default:
		return "", false
	}
}

// ClientRules judge what a browser sends during one session.
type ClientRules struct {
	// Protocol is the target's: it decides which "argv" names are open.
	Protocol string
	// Reserved is the lowest stream index that belongs to the broker; 0 means
	// none does.
	Reserved int64
}

// Check judges a parsed instruction. newest is the timestamp of the newest
// "sync" that was sent to the browser, negative where there was none. The
// error is a *Refusal.
func (r ClientRules) Check(in *Instruction, newest int64) (Verdict, error) {
	op := in.Opcode()
	if len(op) == 0 {
		return r.internal(in)
	}
	forms, known := clientOpcodes(op)
	switch {
	case string(op) == "pipe":
		return refuse("pipe", "pipes into the target are closed: they would not be recorded", ClientForbidden)
	case !known:
		return refuse("?", "unknown opcode", ClientBadRequest)
	case in.Args() != len(forms):
		return refuse(string(op), fmt.Sprintf("has %d arguments, want %d", in.Args(), len(forms)), ClientBadRequest)
	}
	for i := range len(forms) {
		if !holds(forms[i], in.Arg(i)) {
			return refuse(string(op), fmt.Sprintf("argument %d is malformed", i), ClientBadRequest)
		}
	}
	switch string(op) {
	case "nop":
		return Drop, nil
	case "disconnect":
		return Disconnect, nil
	case "sync":
		// guacd drops a user whose timestamp is ahead of its own.
		if ts, _ := Int(in.Arg(0)); ts > newest {
			return refuse("sync", "timestamp is in the future", ClientBadRequest)
		}
	case "size":
		// A hidden element has size 0; guacd allocates whatever it is told.
		for i := range in.Args() {
			if v, _ := Int(in.Arg(i)); v < 1 || v > MaxSide {
				return Drop, nil
			}
		}
	case "argv":
		if !ClientArgv(r.Protocol, string(in.Arg(2))) {
			return refuse("argv", "this parameter is not the client's to set", ClientForbidden)
		}
	}
	if i, has := streamOf(op); has && r.Reserved > 0 {
		if v, _ := Int(in.Arg(i)); v >= r.Reserved {
			return refuse(string(op), "stream index is reserved", ClientBadRequest)
		}
	}
	return Forward, nil
}

// internal judges the tunnel's own instructions, whose opcode is empty: they
// never go to guacd.
func (r ClientRules) internal(in *Instruction) (Verdict, error) {
	if string(in.Arg(0)) != "ping" {
		return Drop, nil
	}
	if in.Args() != 2 || !holds(stamp, in.Arg(1)) {
		return refuse("", "malformed ping", ClientBadRequest)
	}
	return Ping, nil
}

func refuse(opcode, why string, s Status) (Verdict, error) {
	return Refuse, &Refusal{Opcode: opcode, Why: why, Status: s}
}

// streamOf tells which argument of a client's instruction opens or feeds a
// stream of the client.
func streamOf(op []byte) (arg int, has bool) {
	switch string(op) {
	case "clipboard", "audio", "file", "argv", "blob", "end":
		return 0, true
	case "put":
		return 1, true
	}
	return 0, false
}

func holds(f form, b []byte) bool {
	switch f {
	case integer, unsigned:
		v, ok := Int(b)
		return ok && v <= math.MaxInt32 && v >= math.MinInt32 && (f == integer || v >= 0)
	case stamp:
		v, ok := Int(b)
		return ok && v >= 0
	case boolean:
		return len(b) == 1 && (b[0] == '0' || b[0] == '1')
	case decimal:
		return isDecimal(b)
	case base64:
		return isBase64(b)
	case mimetype:
		return isMimetype(b)
	default:
		return bytes.IndexByte(b, 0) < 0
	}
}

func isDecimal(b []byte) bool {
	b = bytes.TrimPrefix(b, []byte("-"))
	number, exponent, exp := bytes.Cut(b, []byte("e")) // JavaScript writes 1e-7
	whole, part, dot := bytes.Cut(number, []byte("."))
	return len(b) <= 32 && digits(whole) && (!dot || digits(part)) &&
		(!exp || digits(bytes.TrimLeft(exponent, "+-")))
}

func digits(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(b) > 0
}

func isBase64(b []byte) bool {
	if len(b)%4 != 0 {
		return false
	}
	b = bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("=")), []byte("="))
	for _, c := range b {
		if !(c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '+' || c == '/') {
			return false
		}
	}
	return true
}

func isMimetype(b []byte) bool {
	if len(b) == 0 || len(b) > 256 || bytes.IndexByte(b, '/') < 1 {
		return false
	}
	for _, c := range b {
		if c < 0x20 || c > 0x7E {
			return false
		}
	}
	return true
}
