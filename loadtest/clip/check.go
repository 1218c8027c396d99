package clip

import (
	"errors"
	"fmt"
)

// ErrMedia: what arrived is not a whole frame of the codec.
var ErrMedia = errors.New("not a whole frame")

// Checker says whether what arrives is media. It has the state of one stream
// and is used by one goroutine at a time.
type Checker interface {
	// Frame takes the payloads of one whole frame (a picture with its spatial
	// layers; a packet of sound), decrypted and in order, without padding. It
	// tells whether they depacketise to what the codec's bitstream can be: its
	// headers, its sizes, its order. It does not decode: bits that are wrong
	// within a picture's coefficients are not seen. An error is an [ErrMedia].
	// Payloads are not kept.
	Frame(payloads [][]byte) error
	// Key says whether the last good frame was one that a receiver can begin with.
	Key() bool
	// Size is what the stream's last key frame said, 0, 0 before there was one
	// and for sound.
	Size() (width, height int)
}

// NewChecker returns one for a codec, by its name in a [Spec].
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

// seen is what a frame said of itself.
type seen struct {
	key           bool
	width, height int // of key frames with a picture
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
