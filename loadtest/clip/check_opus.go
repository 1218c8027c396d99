package clip

import (
	"errors"
	"fmt"
	"time"
)

// The bounds of RFC 6716 section 3.4.
const (
	opusMostFrame  = 1275                   // bytes, R2
	opusMostPacket = 120 * time.Millisecond // R5
)

// checkOpus follows RFC 6716 section 3: the TOC byte (3.1), and what its code
// says of the frames' lengths (3.2), with the requirements R1 to R7 of 3.4.
func checkOpus(payloads [][]byte) (seen, error) {
	if len(payloads) != 1 {
		return seen{}, fmt.Errorf("%d packets where Opus has one", len(payloads))
	}
	toc, body := payloads[0][0], payloads[0][1:]
	var err error
	frames := 1
	switch toc & 3 {
	case 0:
		err = opusSize(len(body))
	case 1:
		frames = 2
		if len(body)%2 != 0 { // R3
			return seen{}, errors.New("two frames of unequal length that are to be equal")
		}
		err = opusSize(len(body) / 2)
	case 2:
		frames = 2
		n, rest, ok := opusLength(body)
		if !ok || n > len(rest) { // R4
			return seen{}, errShort
		}
		err = errors.Join(opusSize(n), opusSize(len(rest)-n))
	case 3:
		frames, err = opusMany(body)
	}
	if err != nil {
		return seen{}, err
	}
	if d := time.Duration(frames) * opusDuration(toc); d > opusMostPacket {
		return seen{}, fmt.Errorf("%v of sound", d)
	}
	return seen{key: true}, nil
}

func opusSize(n int) error {
	if n > opusMostFrame {
		return fmt.Errorf("a frame of %d bytes", n)
	}
	return nil
}

// opusDuration is the length of one frame (table 2).
func opusDuration(toc byte) time.Duration {
	config := int(toc >> 3)
	switch {
	case config < 12: // SILK
		return time.Duration([]int{10, 20, 40, 60}[config%4]) * time.Millisecond
	case config < 16: // hybrid
		return time.Duration([]int{10, 20}[config%2]) * time.Millisecond
	}
	return 2500 * time.Microsecond << (config % 4) // CELT
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

// opusMany looks at a packet of code 3 (3.2.5) and returns its number of frames.
func opusMany(p []byte) (int, error) {
	if len(p) == 0 { // R6, R7
		return 0, errShort
	}
	vbr, padded, frames := p[0]&0x80 != 0, p[0]&0x40 != 0, int(p[0]&0x3F)
	if frames == 0 {
		return 0, errors.New("no frame in it") // R5
	}
	p = p[1:]
	padding := 0
	for more := padded; more; p = p[1:] {
		if len(p) == 0 {
			return 0, errShort
		}
		// 255: 254 bytes, and another length follows.
		more = p[0] == 255
		padding += min(int(p[0]), 254)
	}
	if padding > len(p) {
		return 0, errShort
	}
	p = p[:len(p)-padding]
	if !vbr {
		if len(p)%frames != 0 {
			return 0, fmt.Errorf("%d bytes are not %d equal frames", len(p), frames)
		}
		return frames, opusSize(len(p) / frames)
	}
	sum := 0
	for range frames - 1 {
		n, rest, ok := opusLength(p)
		if !ok {
			return 0, errShort
		}
		if err := opusSize(n); err != nil {
			return 0, err
		}
		sum, p = sum+n, rest
	}
	if sum > len(p) {
		return 0, errShort
	}
	return frames, opusSize(len(p) - sum)
}
