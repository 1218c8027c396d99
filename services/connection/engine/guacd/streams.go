package guacd

import (
	"encoding/base64"
	"fmt"
	"strconv"

	"github.com/openova-io/bp-relay/services/connection/guac"
)

// streams watch what the browser sends on guacd's 64 input streams, for what guacd
// does wrongly without a word.
type streams struct {
	clipboard int // how many bytes of a paste guacd keeps
	refused   [64]bool
	pasted    [64]int    // bytes so far, of a clipboard stream
	pasting   [64]bool   // it is one
	argv      [64][]byte // a font size that is not sent on yet
}

// drop is why a stream is refused: what the browser is told about it.
type drop struct {
	stream int
	status guac.Status
	why    string
}

// take handles an instruction that passed the rules and returns what guacd is
// sent for it, which is raw itself unless the stream is refused.
func (s *streams) take(in *guac.Instruction) (send []byte, d *drop) {
	raw := in.Raw()
	switch string(in.Opcode()) {
	case "clipboard", "file", "audio", "argv":
		i, ok := streamIndex(in.Arg(0))
		if !ok {
			return raw, nil
		}
		s.refused[i], s.pasting[i], s.pasted[i], s.argv[i] = false, string(in.Opcode()) == "clipboard", 0, nil
		if string(in.Opcode()) == "argv" && string(in.Arg(2)) == "font-size" {
			s.argv[i] = append([]byte(nil), raw...)
			return nil, nil
		}
	case "blob":
		if i, ok := streamIndex(in.Arg(0)); ok {
			return s.blob(i, in)
		}
	case "end":
		i, ok := streamIndex(in.Arg(0))
		if !ok {
			return raw, nil
		}
		if s.refused[i] {
			s.refused[i] = false
			return nil, nil
		}
		if held := s.argv[i]; held != nil {
			s.argv[i] = nil
			return append(held, raw...), nil
		}
	}
	return raw, nil
}

func (s *streams) blob(i int, in *guac.Instruction) ([]byte, *drop) {
	switch {
	case s.refused[i]:
		return nil, nil
	case s.argv[i] != nil:
		return nil, s.fontSize(i, in)
	case !s.pasting[i]:
		return in.Raw(), nil
	}
	s.pasted[i] += base64.StdEncoding.DecodedLen(len(in.Arg(1))) - padding(in.Arg(1))
	if s.pasted[i] <= s.clipboard {
		return in.Raw(), nil
	}
	// guacd would keep the beginning. Half a paste is worse than none: empty it.
	s.refused[i] = true
	index := strconv.Itoa(i)
	send, err := guac.Append(nil, "clipboard", index, "text/plain")
	if err == nil {
		send, err = guac.Append(send, "end", index)
	}
	if err != nil {
		send = nil
	}
	return send, &drop{i, guac.ClientOverrun,
		fmt.Sprintf("The clipboard holds at most %d bytes here; nothing was pasted. Paste less at a time.", s.clipboard)}
}

// fontSize holds back the whole of a new font size until it is known: with one
// that leaves no room for a character, guacd's terminal crashes.
func (s *streams) fontSize(i int, in *guac.Instruction) *drop {
	text, err := base64.StdEncoding.DecodeString(string(in.Arg(1)))
	if size, ok := guac.Int(text); err == nil && ok && size >= guac.MinFontSize && size <= guac.MaxFontSize {
		s.argv[i] = append(s.argv[i], in.Raw()...)
		return nil
	}
	s.refused[i], s.argv[i] = true, nil
	return &drop{i, guac.ClientBadRequest, fmt.Sprintf("The font size must be %d to %d points.", guac.MinFontSize, guac.MaxFontSize)}
}

// refuse notes that the stream that in opens was refused. It returns nil if in
// opens none.
func (s *streams) refuse(in *guac.Instruction, status guac.Status) *drop {
	switch string(in.Opcode()) {
	case "clipboard", "file", "audio", "argv", "pipe":
		if i, ok := streamIndex(in.Arg(0)); ok {
			s.refused[i], s.pasting[i], s.argv[i] = true, false, nil
			return &drop{i, status, "This is not allowed in this session."}
		}
	}
	return nil
}

// streamIndex returns the index of a stream that guacd has.
func streamIndex(b []byte) (int, bool) {
	v, ok := guac.Int(b)
	return int(v), ok && v >= 0 && v < 64
}

func padding(b []byte) (n int) {
	for len(b) > 0 && b[len(b)-1] == '=' {
		b, n = b[:len(b)-1], n+1
	}
	return n
}
