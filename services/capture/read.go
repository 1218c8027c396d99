package capture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"filippo.io/age"

	"github.com/openova-io/bp-relay/services/format/manifest"
)

// Get returns the state of a capture in the records. It returns
// records.ErrNotFound if there is no such capture.
func (m *Manager) Get(ctx context.Context, name string) (Info, error) {
	org, _, err := split(name)
	if err != nil {
		return Info{}, err
	}
	state, doc, err := m.load(ctx, name)
	if err != nil {
		return Info{}, err
	}
	info := Info{
		Meta: Meta{
			Name: name, Org: org, Owner: doc.Owner, Bucket: doc.Bucket, Retention: doc.Retention,
			Mode: doc.Mode, Actor: doc.Actor, Attributes: doc.Attributes,
		},
		State: state, Start: doc.Start, Replica: doc.Replica, KeyID: doc.Recipient, Manifest: doc.Manifest,
	}
	if doc.Seal != nil {
		info.End, info.Abandoned = doc.Seal.End, doc.Seal.Abandoned
	}
	for _, sd := range doc.Streams {
		si := StreamInfo(sd)
		if state != StateSealed {
			chain, err := m.tail(ctx, name, sd.Name)
			if err != nil {
				return Info{}, err
			}
			si.Bytes, si.Segments, si.Head = chain.Bytes, chain.Next, chain.Head
		}
		info.Streams = append(info.Streams, si)
	}
	return info, nil
}

// tail is the chain of a stream's recorded segments.
func (m *Manager) tail(ctx context.Context, name, stream string) (*manifest.Chain, error) {
	if c := m.local(name); c != nil {
		if s := c.stream(stream); s != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			chain := *s.stored
			return &chain, nil
		}
	}
	chain := manifest.NewChain(name, stream)
	if err := m.segments(ctx, name, stream, 0, chain.AddRecord); err != nil {
		return nil, fmt.Errorf("stream %s of %s: %w", stream, name, err)
	}
	return chain, nil
}

// Read returns the stored bytes of a stream, decrypted and concatenated. Before
// any byte of a segment is returned, the segment is checked against its record
// (both hashes and the chain). It needs the memory of two segments. Read, or a
// later read from the result, returns blob.ErrRecalling if an object is being
// recalled from cold storage, ErrDamaged if it differs from what was recorded,
// and ErrErased if the key was destroyed. The caller must write the leaf of the
// view first, and close the result.
func (m *Manager) Read(ctx context.Context, name, stream string) (io.ReadCloser, error) {
	_, doc, err := m.load(ctx, name)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(doc.Streams, func(s streamDoc) bool { return s.Name == stream }) {
		return nil, fmt.Errorf("%w: capture %s has no stream %q", ErrInvalid, name, stream)
	}
	if len(doc.Identity) == 0 {
		return nil, fmt.Errorf("%w: %s", ErrErased, name)
	}
	secret, err := m.cfg.Keys.Decrypt(name, doc.Identity)
	if err != nil {
		return nil, fmt.Errorf("key of capture %s: %w", name, err)
	}
	identity, err := age.ParseHybridIdentity(string(secret))
	if err != nil {
		return nil, fmt.Errorf("key of capture %s: %w", name, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &reader{
		m: m, ctx: ctx, cancel: cancel, name: name, stream: stream, bucket: doc.Bucket,
		identity: identity, chain: manifest.NewChain(name, stream),
	}
	// Read the first segment now, so that its error is this call's, not that of a
	// response that has already begun.
	r.err = r.advance()
	if r.err != nil && r.err != io.EOF { //nolint:errorlint // EOF itself is the end; a broken connection wraps it
		cancel()
		return nil, r.err
	}
	return r, nil
}

// reader reads one stream.
type reader struct {
	m        *Manager
	ctx      context.Context //nolint:containedctx // io.Reader's Read cannot be given one
	cancel   context.CancelFunc
	name     string
	stream   string
	bucket   string
	identity age.Identity
	chain    *manifest.Chain
	page     []manifest.Record
	cipher   bytes.Buffer
	plain    bytes.Buffer
	err      error // why nothing follows plain: the next segment must not be read after one that failed
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	for r.plain.Len() == 0 {
		if r.err == nil {
			r.err = r.advance()
		}
		if r.err != nil {
			return 0, r.err
		}
	}
	return r.plain.Read(p)
}

// Close implements io.Closer.
func (r *reader) Close() error {
	r.cancel()
	return nil
}

// errPageFull stops reading records at the end of a page.
var errPageFull = errors.New("page is full")

// advance reads the next segment into plain. It returns io.EOF after the last.
func (r *reader) advance() error {
	if len(r.page) == 0 {
		err := r.m.segments(r.ctx, r.name, r.stream, r.chain.Next, func(rec manifest.Record) error {
			r.page = append(r.page, rec)
			if len(r.page) == 64 {
				return errPageFull
			}
			return nil
		})
		if err != nil && !errors.Is(err, errPageFull) {
			return err
		}
		if len(r.page) == 0 {
			return io.EOF
		}
	}
	rec := r.page[0]
	r.page = r.page[1:]
	if err := r.chain.AddRecord(rec); err != nil {
		return fmt.Errorf("stream %s of %s: %w", r.stream, r.name, err)
	}
	if err := r.fetch(rec.Segment); err != nil {
		return fmt.Errorf("segment %d of stream %s of %s: %w", rec.Seq, r.stream, r.name, err)
	}
	return nil
}

func (r *reader) fetch(seg manifest.Segment) error {
	body, _, err := r.m.cfg.Blob.Get(r.ctx, r.bucket, seg.Key)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	r.cipher.Reset()
	// One byte more than recorded, so that a longer object is noticed.
	if _, err := r.cipher.ReadFrom(io.LimitReader(body, seg.CipherLen+1)); err != nil {
		return fmt.Errorf("get %s: %w", seg.Key, err)
	}
	if int64(r.cipher.Len()) != seg.CipherLen || manifest.SHA256(r.cipher.Bytes()) != seg.CipherSHA256 {
		return fmt.Errorf("%w: object %s", ErrDamaged, seg.Key)
	}
	return r.decrypt(seg)
}

func (r *reader) decrypt(seg manifest.Segment) error {
	plain, err := age.Decrypt(&r.cipher, r.identity)
	if err != nil {
		return fmt.Errorf("%w: decrypt: %w", ErrDamaged, err)
	}
	r.plain.Reset()
	if _, err := r.plain.ReadFrom(io.LimitReader(plain, seg.PlainLen+1)); err != nil {
		r.plain.Reset()
		return fmt.Errorf("%w: decrypt: %w", ErrDamaged, err)
	}
	if int64(r.plain.Len()) != seg.PlainLen || manifest.SHA256(r.plain.Bytes()) != seg.PlainSHA256 {
		r.plain.Reset()
		return fmt.Errorf("%w: plaintext", ErrDamaged)
	}
	return nil
}
