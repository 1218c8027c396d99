package bag

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// copySize is the size of the copy buffer, in bytes.
const copySize = 256 << 10

// Header is the tar header of a file of a bag. The same name, size and Unix
// time always give the same bytes, so that a verifier can check them.
func Header(base, name string, size, mtime int64) *tar.Header {
	return &tar.Header{
		Typeflag: tar.TypeReg, Name: base + "/" + name, Size: size, Mode: 0o644, ModTime: time.Unix(mtime, 0).UTC(),
	}
}

// archive writes files into a tar, and their hashes as lines of the two bag
// manifests.
type archive struct {
	tw            *tar.Writer
	base          string
	mtime         int64
	payload, tags *Spool
	buf           []byte
	// octets and files count the payload; sums are those of Statement.Files.
	octets, files int64
	sums          map[string]string
}

func newArchive(w io.Writer, base string, mtime int64, scratch string) (*archive, error) {
	payload, err := NewSpool(scratch)
	if err != nil {
		return nil, err
	}
	tags, err := NewSpool(scratch)
	if err != nil {
		return nil, errors.Join(err, payload.Close())
	}
	return &archive{tw: tar.NewWriter(w), base: base, mtime: mtime, payload: payload, tags: tags, buf: make([]byte, copySize), sums: map[string]string{}}, nil
}

// Close deletes the spools; it does not close the tar.
func (a *archive) Close() error { return errors.Join(a.payload.Close(), a.tags.Close()) }

// add writes one file of exactly size bytes and returns its hex SHA-256.
func (a *archive) add(ctx context.Context, name string, size int64, r io.Reader) (string, error) {
	if err := a.tw.WriteHeader(Header(a.base, name, size, a.mtime)); err != nil {
		return "", fmt.Errorf("bag file %s: %w", name, err)
	}
	sum := sha256.New()
	n, err := io.CopyBuffer(io.MultiWriter(a.tw, sum), &bounded{ctx: ctx, r: r}, a.buf)
	if err == nil && n != size {
		err = fmt.Errorf("got %d bytes, want %d: %w", n, size, io.ErrUnexpectedEOF)
	}
	if err != nil {
		return "", fmt.Errorf("bag file %s: %w", name, err)
	}
	hexSum := hex.EncodeToString(sum.Sum(nil))
	lines := a.tags
	if strings.HasPrefix(name, "data/") {
		lines = a.payload
		a.octets += n
		a.files++
	}
	if Named(name) {
		a.sums[name] = hexSum
	}
	if name != TagSums && name != Signature {
		if _, err := io.WriteString(lines, SumLine(hexSum, name)); err != nil {
			return "", err
		}
	}
	return hexSum, nil
}

// text adds a small file.
func (a *archive) text(ctx context.Context, name string, body []byte) error {
	_, err := a.add(ctx, name, int64(len(body)), bytes.NewReader(body))
	return err
}

// spool adds a spooled file.
func (a *archive) spool(ctx context.Context, name string, s *Spool) (string, error) {
	return a.add(ctx, name, s.Size(), s.Reader())
}

// bounded stops reading when its context ends. It hides WriteTo, so that
// io.CopyBuffer uses the given buffer.
type bounded struct {
	ctx context.Context //nolint:containedctx // io.Reader's Read cannot be given one
	r   io.Reader
}

func (b *bounded) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	return b.r.Read(p)
}
