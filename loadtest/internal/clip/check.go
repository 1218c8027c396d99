package clip

import (
	"errors"
	"fmt"
)

// ErrMedia means that the payloads are not one whole frame of the codec.
var ErrMedia = errors.New("not a whole frame")

// Checker checks received media. It holds the state of one stream; only one goroutine
// at a time may use it.
type Checker interface {
	// Frame checks the payloads of one whole frame (a picture with its spatial layers, or
	// an audio packet), decrypted, in order and without padding: whether they depacketise
	// to a valid bitstream, by its headers, sizes and order. It does not decode, so it
	// cannot find wrong bits in a picture's coefficients. An error is an [ErrMedia].
	// Payloads are not kept.
	Frame(payloads [][]byte) error
	// Key reports whether a receiver can start with the last good frame.
	Key() bool
	// Size returns the size in the stream's last key frame; 0, 0 before the first one
	// and for audio.
	Size() (width, height int)
}

// NewChecker returns a checker for a codec by its name in a [Spec], or a *[SpecError].
func NewChecker(codec string) (Checker, error) {
	switch codec {
	case VP8:
		return &checker{frame: checkVP8}, nil
	case VP9:
		return &checker{frame: checkVP9}, nil
	case AV1:
		return &checker{frame: checkAV1}, nil
	case H264:
		return &checker{frame: checkH264}, nil
	case Opus:
		return &checker{frame: checkOpus}, nil
	}
	return nil, &SpecError{Field: "Codec", Value: fmt.Sprintf("%q", codec), Want: "vp8, vp9, av1, h264 or opus"}
}

// seen is what a frame's headers say.
type seen struct {
	key           bool
	width, height int // of video key frames
}

type checker struct {
	frame func(payloads [][]byte) (seen, error)
	last  seen
}

func (c *checker) Frame(payloads [][]byte) error {
	if len(payloads) == 0 {
		return fmt.Errorf("%w: no packets", ErrMedia)
	}
	for i, p := range payloads {
		if len(p) == 0 {
			return fmt.Errorf("%w: packet %d is empty", ErrMedia, i)
		}
	}
	s, err := c.frame(payloads)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMedia, err)
	}
	c.last.key = s.key
	if s.width > 0 {
		c.last.width, c.last.height = s.width, s.height
	}
	return nil
}

func (c *checker) Key() bool { return c.last.key }

func (c *checker) Size() (width, height int) { return c.last.width, c.last.height }

var errShort = errors.New("it ends too early")
