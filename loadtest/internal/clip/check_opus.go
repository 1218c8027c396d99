package clip

import (
	"errors"
	"fmt"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/opus"
)

// The bounds of RFC 6716 section 3.4.
const (
	opusMostFrame  = 1275 // bytes, R2
	opusMostPacket = 5760 // samples at 48 kHz, 120 ms, R5
)

// checkOpus checks a packet by RFC 6716 section 3: the TOC byte (3.1), the frames' lengths
// by its code (3.2), and the requirements R1 to R7 (3.4). mediacommon gives a packet's
// duration, but does not check the lengths of its frames.
func checkOpus(payloads [][]byte) (seen, error) {
	if len(payloads) != 1 {
		return seen{}, fmt.Errorf("%d packets, want one", len(payloads))
	}
	toc, body := payloads[0][0], payloads[0][1:]
	var err error
	switch toc & 3 {
	case 0:
		err = opusSize(len(body))
	case 1:
		if len(body)%2 != 0 { // R3
			return seen{}, errors.New("two frames that must be equally long are not")
		}
		err = opusSize(len(body) / 2)
	case 2:
		n, rest, ok := opusLength(body)
		if !ok || n > len(rest) { // R4
			return seen{}, errShort
		}
		err = errors.Join(opusSize(n), opusSize(len(rest)-n))
	case 3:
		err = opusMany(body)
	}
	if err != nil {
		return seen{}, err
	}
	if n := opus.PacketDuration2(payloads[0]); n > opusMostPacket {
		return seen{}, fmt.Errorf("%d samples of audio, want at most %d", n, opusMostPacket)
	}
	return seen{key: true}, nil
}

func opusSize(n int) error {
	if n > opusMostFrame {
		return fmt.Errorf("a frame of %d bytes", n)
	}
	return nil
}

// opusLength reads a frame's length (3.2.1).
func opusLength(p []byte) (n int, rest []byte, ok bool) {
	if len(p) == 0 {
		return 0, nil, false
	}
	if p[0] < 252 {
		return int(p[0]), p[1:], true
	}
	if len(p) < 2 {
		return 0, nil, false
	}
	return int(p[0]) + 4*int(p[1]), p[2:], true
}

// opusMany checks a packet of code 3 (3.2.5).
func opusMany(p []byte) error {
	if len(p) == 0 { // R6, R7
		return errShort
	}
	vbr, padded, frames := p[0]&0x80 != 0, p[0]&0x40 != 0, int(p[0]&0x3F)
	if frames == 0 {
		return errors.New("it has no frame") // R5
	}
	p = p[1:]
	padding := 0
	for more := padded; more; p = p[1:] {
		if len(p) == 0 {
			return errShort
		}
		// 255 means 254 bytes and another length byte.
		more = p[0] == 255
		padding += min(int(p[0]), 254)
	}
	if padding > len(p) {
		return errShort
	}
	p = p[:len(p)-padding]
	if !vbr {
		if len(p)%frames != 0 {
			return fmt.Errorf("%d bytes are not %d equal frames", len(p), frames)
		}
		return opusSize(len(p) / frames)
	}
	sum := 0
	for range frames - 1 {
		n, rest, ok := opusLength(p)
		if !ok {
			return errShort
		}
		if err := opusSize(n); err != nil {
			return err
		}
		sum, p = sum+n, rest
	}
	if sum > len(p) {
		return errShort
	}
	return opusSize(len(p) - sum)
}
