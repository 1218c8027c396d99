package bag

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/openova-io/bp-relay/services/format/manifest"
)

// A segment that cannot be read is tried again; several in a row mean that the
// store is away, and then the export fails.
const (
	tries      = 3
	retryAfter = time.Second
	mostInARow = 3
)

// damages reads segments and keeps what is wrong with them.
type damages struct {
	in   Input
	list []Damage
	// at are the stored segments in list, by stream and number.
	at  map[string]map[int64]bool
	row int // unreadable segments in a row
	buf bytes.Buffer
}

func newDamages(in Input) *damages {
	return &damages{in: in, at: map[string]map[int64]bool{}}
}

// add notes a damage.
func (d *damages) add(stream string, seq int64, part, why string) {
	d.list = append(d.list, Damage{Stream: stream, Seq: seq, Part: part, Why: why})
	if part == StoredPart {
		if d.at[stream] == nil {
			d.at[stream] = map[int64]bool{}
		}
		d.at[stream][seq] = true
	}
}

// stored returns the ciphertext of a segment, which is valid until the next
// call; ok is false if it is damaged.
func (d *damages) stored(ctx context.Context, stream string, g manifest.Segment) (body []byte, ok bool, err error) {
	why, err := d.try(ctx, func() error {
		r, err := d.in.Media.Segment(ctx, d.in.Manifest, g)
		if err != nil {
			return err
		}
		d.buf.Reset()
		// One byte more than sealed, so that a longer object is noticed.
		_, err = d.buf.ReadFrom(io.LimitReader(r, g.CipherLen+1))
		return errors.Join(err, r.Close())
	})
	if err != nil {
		return nil, false, err
	}
	if why == "" && manifest.SHA256(d.buf.Bytes()) != g.CipherSHA256 {
		why = WhyChanged
	}
	if why != "" {
		d.add(stream, g.Seq, StoredPart, why)
		return nil, false, nil
	}
	return d.buf.Bytes(), true, nil
}

// try calls fn until it succeeds, and returns why the segment is damaged
// otherwise. It returns an error if the export must end.
func (d *damages) try(ctx context.Context, fn func() error) (why string, err error) {
	for n := 1; ; n++ {
		err := fn()
		switch {
		case err == nil:
			d.row = 0
			return "", nil
		case ctx.Err() != nil:
			return "", ctx.Err()
		case errors.Is(err, ErrMissing):
			d.row = 0
			return WhyMissing, nil
		case errors.Is(err, manifest.ErrDamaged):
			d.row = 0
			return WhyChanged, nil
		case d.in.Fatal != nil && d.in.Fatal(err):
			return "", err
		case n == tries:
			if d.row++; d.row >= mostInARow || d.only() {
				return "", fmt.Errorf("the store answers for no segment: %w", err)
			}
			return WhyUnreadable, nil
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(retryAfter):
		}
	}
}

// only reports whether there are too few segments to tell an object that cannot
// be read from a store that is away.
func (d *damages) only() bool { return d.in.Manifest.Segments() < mostInARow }

// ErrMissing: the store has no such object. It is a manifest.ErrDamaged.
var ErrMissing = fmt.Errorf("%w: there is no such object", manifest.ErrDamaged)

// playing reads a stream's plaintext, with zero bytes for damaged segments.
type playing struct {
	ctx  context.Context //nolint:containedctx // io.Reader's Read cannot be given one
	d    *damages
	s    manifest.StreamManifest
	from Plain
	next int
	left []byte
}

func (p *playing) Read(to []byte) (int, error) {
	for len(p.left) == 0 {
		if p.next == len(p.s.Segments) {
			return 0, io.EOF
		}
		if err := p.advance(p.s.Segments[p.next]); err != nil {
			return 0, err
		}
		p.next++
	}
	n := copy(to, p.left)
	p.left = p.left[n:]
	return n, nil
}

func (p *playing) advance(g manifest.Segment) error {
	why, known := "", p.d.at[p.s.Name][g.Seq]
	if !known {
		var err error
		why, err = p.d.try(p.ctx, func() (err error) {
			p.left, err = p.from.Segment(p.ctx, g)
			return err
		})
		if err != nil {
			return fmt.Errorf("segment %d: %w", g.Seq, err)
		}
		if why == "" && int64(len(p.left)) != g.PlainLen {
			why = WhyChanged
		}
	}
	if known || why != "" {
		p.left = make([]byte, g.PlainLen)
	}
	if why != "" {
		p.d.add(p.s.Name, g.Seq, PlayedPart, why)
	}
	return nil
}
