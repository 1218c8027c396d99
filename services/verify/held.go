package verify

import (
	"fmt"
	"io"

	"github.com/openova-io/bp-relay/services/format/bag"
)

// maxHeld is how much of a file from a pipe is held in memory, in bytes; more
// goes to a temporary file.
const maxHeld = 256 << 10

// held keeps a file that is read again once its hash is proven. A file that can
// be read in place needs no copy.
type held struct {
	place io.ReaderAt // nil for a pipe
	mem   []byte
	spool *bag.Spool
	size  int64
}

// Write keeps a copy, unless the file can be read in place.
func (h *held) Write(p []byte) (int, error) {
	h.size += int64(len(p))
	if h.place != nil {
		return len(p), nil
	}
	if h.spool == nil && len(h.mem)+len(p) <= maxHeld {
		h.mem = append(h.mem, p...)
		return len(p), nil
	}
	if h.spool == nil {
		var err error
		if h.spool, err = bag.NewSpool(""); err != nil {
			return 0, fmt.Errorf("%w: keep a part of it: %w", ErrUnreadable, err)
		}
		if _, err := h.spool.Write(h.mem); err != nil {
			return 0, fmt.Errorf("%w: keep a part of it: %w", ErrUnreadable, err)
		}
		h.mem = nil
	}
	n, err := h.spool.Write(p)
	if err != nil {
		return n, fmt.Errorf("%w: keep a part of it: %w", ErrUnreadable, err)
	}
	return n, nil
}

// ReadAt reads what was written.
func (h *held) ReadAt(p []byte, at int64) (int, error) {
	switch {
	case h.place != nil:
		return h.place.ReadAt(p, at)
	case h.spool != nil:
		return h.spool.ReadAt(p, at)
	case at >= int64(len(h.mem)):
		return 0, io.EOF
	}
	n := copy(p, h.mem[at:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (h *held) reader() io.Reader { return io.NewSectionReader(h, 0, h.size) }

// close deletes the copy.
func (h *held) close() {
	if h.spool != nil {
		_ = h.spool.Close() // a temporary file without a name
	}
	*h = held{}
}
