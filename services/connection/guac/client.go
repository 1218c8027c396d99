package guac

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
)

// Verdict is what to do with a client's instruction.
type Verdict int

// The verdicts.
const (
	// Refuse: drop it, and nothing else; Check also returns an error.
	Refuse Verdict = iota
	// Forward: send it on to guacd.
	Forward
	// Drop: it is allowed but means nothing to guacd ("nop").
	Drop
	// Ping: a tunnel ping; echo it with its arguments.
	Ping
	// Disconnect: tell guacd, then end the session.
	Disconnect
)

// Refusal is why an instruction was refused. It names the opcode only if it is a
// known one, and never a value.
type Refusal struct {
	Opcode string
	Why    string
	Status Status
}

func (e *Refusal) Error() string {
	return fmt.Sprintf("guac: %s refused: %s", strconv.Quote(e.Opcode), e.Why)
}

// form is the syntax of one argument.
type form = byte

const (
	text     form = 't' // no NUL
	integer  form = 'i' // what atoi reads, within a C int
	unsigned form = 'u' // the same, not negative
	rounded  form = 'r' // a number, which may have a fraction: it is rounded
	stamp    form = 's' // a timestamp: not negative, 64 bits
	boolean  form = 'b' // 0, 1, false or true
	decimal  form = 'd' // what atof reads, as JavaScript writes it
	base64   form = '6' // RFC 4648 section 4, padded
	mimetype form = 'm' // type/subtype, no control characters
)

// clientOpcodes returns the forms of the arguments of an opcode that a browser
// may send to guacd. Their number is exact: guacd's handlers read argv without
// checking argc (user-handlers.c). Not known are "pipe", which is an unrecorded
// second input (STDIN redirection), the handshake's opcodes, and "usb*".
//
// Positions and sizes are CSS pixels times a zoom, so that a browser at 125 %
// sends fractions of them. Nothing else that a client sends has any.
func clientOpcodes(opcode []byte) (forms string, known bool) {
	switch string(opcode) {
	case "sync":
		return "s", true
	case "mouse":
		return "rru", true
	case "key":
		return "ub", true
	case "touch":
		return "irrrrdd", true
	case "size":
		return "rr", true
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

// ClientRules check what a browser sends during one session.
type ClientRules struct {
	// Protocol is the target's; it decides which "argv" names are allowed.
	Protocol string
	// Reserved is the lowest stream index that belongs to the broker; 0: none.
	Reserved int64
	// Bounds are those of the screen, at DPI.
	Bounds Bounds
	DPI    int
}

// Check checks a parsed instruction. newest is the timestamp of the newest "sync"
// that was sent to the browser, negative if there was none. If guacd would misread
// an argument that has only one meaning, such as 1251.25 pixels, Check puts the
// instruction that guacd reads rightly into in. The error is a *Refusal.
func (r ClientRules) Check(in *Instruction, newest int64) (Verdict, error) {
	op := in.Opcode()
	if len(op) == 0 {
		return r.internal(in)
	}
	forms, known := clientOpcodes(op)
	switch {
	case string(op) == "pipe":
		return refuse("pipe", "pipes into the target are not allowed: they would not be recorded", ClientForbidden)
	case !known:
		return refuse("?", "unknown opcode", ClientBadRequest)
	case in.Args() != len(forms):
		return refuse(string(op), fmt.Sprintf("has %d arguments, want %d", in.Args(), len(forms)), ClientBadRequest)
	}
	plain := true
	for i := range len(forms) {
		if !holds(forms[i], in.Arg(i)) {
			return refuse(string(op), fmt.Sprintf("argument %d is malformed", i), ClientBadRequest)
		}
		plain = plain && asGuacdReads(forms[i], in.Arg(i))
	}
	switch string(op) {
	case "nop":
		return Drop, nil
	case "disconnect":
		return Disconnect, nil
	case "sync":
		// guacd disconnects a user whose timestamp is ahead of its own.
		if ts, _ := Int(in.Arg(0)); ts > newest {
			return refuse("sync", "timestamp is in the future", ClientBadRequest)
		}
	case "size":
		return r.size(in)
	case "argv":
		if !ClientArgv(r.Protocol, string(in.Arg(2))) {
			return refuse("argv", "the client may not set this parameter", ClientForbidden)
		}
	}
	if i, has := streamOf(op); has && r.Reserved > 0 {
		if v, _ := Int(in.Arg(i)); v >= r.Reserved {
			return refuse(string(op), "stream index is reserved", ClientBadRequest)
		}
	}
	if !plain {
		return rewrite(in, forms)
	}
	return Forward, nil
}

// size brings a new size of the screen within its bounds. A hidden element has
// size 0, which means nothing.
func (r ClientRules) size(in *Instruction) (Verdict, error) {
	w, _ := round(in.Arg(0))
	h, _ := round(in.Arg(1))
	if w < 1 || h < 1 {
		return Drop, nil
	}
	width, height := r.Bounds.Fit(w, h, r.DPI)
	return replace(in, "size", strconv.Itoa(width), strconv.Itoa(height))
}

// rewrite writes each argument as guacd reads it.
func rewrite(in *Instruction, forms string) (Verdict, error) {
	args := in.Strings()
	for i := range args {
		switch forms[i] {
		case rounded:
			v, _ := round(in.Arg(i))
			args[i] = strconv.FormatInt(v, 10)
		case boolean:
			args[i] = map[string]string{"true": "1", "false": "0", "1": "1", "0": "0"}[args[i]]
		}
	}
	return replace(in, string(in.Opcode()), args...)
}

// replace puts another instruction into in.
func replace(in *Instruction, opcode string, args ...string) (Verdict, error) {
	raw, err := Append(nil, opcode, args...)
	if err == nil {
		err = in.Parse(raw)
	}
	if err != nil {
		return refuse(opcode, "cannot be written again", ClientBadRequest)
	}
	return Forward, nil
}

// internal checks the tunnel's own instructions, whose opcode is empty. They are
// never sent to guacd.
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

// streamOf returns which argument of a client's instruction is the index of a
// stream that the client opens or writes to.
func streamOf(op []byte) (arg int, has bool) {
	switch string(op) {
	case "clipboard", "audio", "file", "argv", "blob", "end":
		return 0, true
	case "put":
		return 1, true
	}
	return 0, false
}

// asGuacdReads reports whether guacd reads an argument of this form, which holds,
// as the client means it.
func asGuacdReads(f form, b []byte) bool {
	switch f {
	case rounded:
		_, ok := Int(b)
		return ok
	case boolean:
		return len(b) == 1
	default:
		return true
	}
}

func holds(f form, b []byte) bool {
	switch f {
	case integer, unsigned:
		v, ok := Int(b)
		return ok && v <= math.MaxInt32 && v >= math.MinInt32 && (f == integer || v >= 0)
	case rounded:
		_, ok := round(b)
		return ok
	case stamp:
		v, ok := Int(b)
		return ok && v >= 0
	case boolean:
		return string(b) == "0" || string(b) == "1" || string(b) == "true" || string(b) == "false"
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

// round reads a number as JavaScript writes it and rounds it, half away from
// zero. It returns false for anything else and for what is not within a C int.
func round(b []byte) (int64, bool) {
	v, ok := Int(b)
	if !ok {
		if !isDecimal(b) {
			return 0, false
		}
		f, err := strconv.ParseFloat(string(b), 64)
		if err != nil || math.Abs(f) > math.MaxInt32 {
			return 0, false
		}
		v = int64(math.Round(f))
	}
	return v, v <= math.MaxInt32 && v >= math.MinInt32
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
