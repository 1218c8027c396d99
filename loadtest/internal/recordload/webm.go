package recordload

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
)

// errWebM is wrapped by the errors of an invalid track file.
var errWebM = errors.New("not a WebM file")

// The ids of the elements that are read (RFC 9559 section 5), with their length
// markers.
const (
	idEBML        = 0x1A45DFA3
	idSegment     = 0x18538067
	idCluster     = 0x1F43B675
	idBlockGroup  = 0xA0
	idBlock       = 0xA1
	idSimpleBlock = 0xA3
)

// blocks counts the blocks of a WebM file: a block is a packet in ffprobe's
// terms, a video frame or an audio packet.
func blocks(src io.Reader) (n int64, err error) {
	in := bufio.NewReaderSize(src, 64<<10)
	for first := true; ; first = false {
		id, err := number(in, 4, true)
		if err == io.EOF && !first { //nolint:errorlint // number returns the end itself; a stream that broke off may wrap it
			return n, nil
		}
		if err != nil {
			return n, fmt.Errorf("%w: %w", errWebM, err)
		}
		if first && id != idEBML {
			return n, fmt.Errorf("%w: it does not begin with an EBML header", errWebM)
		}
		size, err := number(in, 8, false)
		if err != nil {
			return n, fmt.Errorf("%w: %w", errWebM, cut(err))
		}
		switch id {
		case idSegment, idCluster, idBlockGroup:
			continue // read its children, whatever its size
		case idBlock, idSimpleBlock:
			n++
		}
		if size > math.MaxInt64 {
			return n, fmt.Errorf("%w: an element of unknown size that is not a container", errWebM)
		}
		if _, err := io.CopyN(io.Discard, in, int64(size)); err != nil {
			return n, fmt.Errorf("%w: %w", errWebM, cut(err))
		}
	}
}

// number reads a variable-size integer of at most the given number of bytes
// (RFC 8794 section 4): an id keeps its marker, a size does not. A size with
// all bits set is unknown (section 6.2): MaxUint64. It returns io.EOF only
// before the first byte.
func number(in *bufio.Reader, most int, id bool) (uint64, error) {
	first, err := in.ReadByte()
	if err != nil {
		return 0, err
	}
	length := bits.LeadingZeros8(first) + 1
	if length > most {
		return 0, fmt.Errorf("a number of %d bytes", length)
	}
	v := uint64(first)
	if !id {
		v &= 1<<(8-length) - 1
	}
	for range length - 1 {
		b, err := in.ReadByte()
		if err != nil {
			return 0, cut(err)
		}
		v = v<<8 | uint64(b)
	}
	if !id && v == 1<<(7*length)-1 {
		return math.MaxUint64, nil
	}
	return v, nil
}

// cut turns an unexpected end of the file into io.ErrUnexpectedEOF.
func cut(err error) error {
	if err == io.EOF { //nolint:errorlint // as above
		return io.ErrUnexpectedEOF
	}
	return err
}
