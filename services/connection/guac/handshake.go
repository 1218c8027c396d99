package guac

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// ErrHandshake: guacd broke the protocol of the handshake.
var ErrHandshake = errors.New("guac: handshake")

// versions are the supported versions of the protocol, oldest first
// (protocol-types.h).
func versions() []string {
	return []string{"VERSION_1_0_0", "VERSION_1_1_0", "VERSION_1_3_0", "VERSION_1_5_0"}
}

// Opening is what a handshake sends.
type Opening struct {
	// Select is a protocol by guacd's name, or an existing connection's id
	// ("$...").
	Select string
	Screen Screen
	Params Params
}

// Opened is what guacd answered.
type Opened struct {
	// ID is the connection's id in that guacd: "$" and a UUID. It is a secret:
	// whoever knows it and reaches guacd can join the session and type into it.
	ID string
	// Version is the agreed version of the protocol.
	Version string
	// Rest are the bytes that were read after "ready": the first bytes of the
	// session.
	Rest []byte
	// Clipboard is how many bytes of a paste this guacd keeps.
	Clipboard int
}

// Handshake opens a session on rw, a new connection to guacd. The caller sets the
// deadline (guacd allows 15 s per instruction) and closes rw after an error.
// Parameters are sent by name, in the order in which this guacd asks for them; a
// parameter without a value is sent as "". A *StatusError is guacd's refusal with
// its status. "ready" does not mean that the target answers: such an error
// arrives later, in the session.
func Handshake(rw io.ReadWriter, o Opening) (Opened, error) {
	if err := o.Screen.Check(); err != nil {
		return Opened{}, err
	}
	r := &reader{src: rw}
	if err := send(rw, []string{"select", o.Select}); err != nil {
		return Opened{}, err
	}
	args, err := r.expect("args")
	if err != nil {
		return Opened{}, err
	}
	version, values := answer(args, o.Params)
	greeting := greet(version, o.Screen)
	if err := send(rw, append(greeting, append([]string{"connect"}, values...))...); err != nil {
		return Opened{}, err
	}
	ready, err := r.expect("ready")
	if err != nil {
		return Opened{}, err
	}
	if len(ready) != 1 || !strings.HasPrefix(ready[0], "$") {
		return Opened{}, fmt.Errorf("%w: ready without a connection id", ErrHandshake)
	}
	opened := Opened{ID: ready[0], Version: version, Rest: slices.Clone(r.buf[r.from:r.to]), Clipboard: smallClipboard}
	if slices.Contains(args, clipboardBuffer) && o.Params[clipboardBuffer] != "" {
		opened.Clipboard = bigClipboard
	}
	return opened, nil
}

// answer chooses the version and puts the values into guacd's order. "connect"
// must have exactly as many values as "args".
func answer(args []string, p Params) (version string, values []string) {
	known := versions()
	version = known[0]
	if len(args) > 0 && strings.HasPrefix(args[0], "VERSION_") {
		for _, v := range known {
			if !newer(v, args[0]) {
				version = v
			}
		}
		values, args = append(values, version), args[1:]
	}
	for _, name := range args {
		values = append(values, p[name])
	}
	return version, values
}

// newer reports whether version a is greater than b. A malformed version is the
// oldest.
func newer(a, b string) bool {
	return slices.Compare(numbers(a), numbers(b)) > 0
}

func numbers(v string) []int {
	var out []int
	for part := range strings.SplitSeq(strings.TrimPrefix(v, "VERSION_"), "_") {
		n, err := strconv.Atoi(part)
		if err != nil || n < 0 {
			return nil
		}
		out = append(out, n)
	}
	return out
}

func greet(version string, s Screen) [][]string {
	out := [][]string{
		{"size", strconv.Itoa(s.Width), strconv.Itoa(s.Height), strconv.Itoa(s.DPI)},
		append([]string{"audio"}, s.Audio...),
		append([]string{"video"}, s.Video...),
		append([]string{"image"}, s.Image...),
	}
	if s.Timezone != "" && !newer("VERSION_1_1_0", version) {
		out = append(out, []string{"timezone", s.Timezone})
	}
	if s.Name != "" && !newer("VERSION_1_5_0", version) {
		out = append(out, []string{"name", s.Name})
	}
	return out
}

// send sends instructions with one write.
func send(w io.Writer, instructions ...[]string) error {
	var buf []byte
	for _, in := range instructions {
		var err error
		if buf, err = Append(buf, in[0], in[1:]...); err != nil {
			return fmt.Errorf("encode %s: %w", in[0], err)
		}
	}
	if _, err := w.Write(buf); err != nil {
		return fmt.Errorf("write to guacd: %w", err)
	}
	return nil
}

// reader reads whole instructions from guacd during the handshake.
type reader struct {
	src      io.Reader
	scan     Scanner
	buf      [2 * MaxInstruction]byte
	from, to int // buf[from:to] was read and not yet returned
}

// expect returns the arguments of the next instruction, which must have this
// opcode. It skips guacd's keep-alive. "error" becomes a *StatusError.
func (r *reader) expect(opcode string) ([]string, error) {
	for {
		raw, err := r.next()
		if err != nil {
			return nil, fmt.Errorf("waiting for %s: %w", opcode, err)
		}
		var in Instruction
		if err := in.Parse(raw); err != nil {
			return nil, err
		}
		switch string(in.Opcode()) {
		case opcode:
			return in.Strings(), nil
		case "nop":
		case "error":
			return nil, AsStatusError(&in)
		case "disconnect":
			return nil, &StatusError{Status: UpstreamError, Message: "disconnected during the handshake"}
		default:
			return nil, fmt.Errorf("%w: guacd did not answer with %s", ErrHandshake, opcode)
		}
	}
}

func (r *reader) next() ([]byte, error) {
	seen := r.from
	for {
		n, done, err := r.scan.Next(r.buf[seen:r.to])
		if err != nil {
			return nil, err
		}
		seen += n
		if done {
			raw := r.buf[r.from:seen]
			r.from = seen
			return raw, nil
		}
		if r.from > 0 {
			r.to = copy(r.buf[:], r.buf[r.from:r.to])
			r.from, seen = 0, r.to
		}
		m, err := r.src.Read(r.buf[r.to:])
		r.to += m
		if m == 0 && err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, fmt.Errorf("read from guacd: %w", err)
		}
	}
}
