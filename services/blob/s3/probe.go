package s3

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/openova-io/bp-relay/services/blob"
)

// probe is one run of Probe.
type probe struct {
	*Store
	bucket, prefix string
	a              blob.Abilities
	written        []string // keys to remove at the end
}

// Probe implements blob.Prober. It makes a real request for each ability and then
// checks what the server holds.
func (s *Store) Probe(ctx context.Context, bucket string) (blob.Abilities, error) {
	id := make([]byte, 8)
	_, _ = rand.Read(id) // never fails (crypto/rand)
	p := &probe{Store: s, bucket: bucket, prefix: ".probe/" + hex.EncodeToString(id) + "/"}
	p.a.Time = time.Now().UTC()
	defer p.clean(context.WithoutCancel(ctx))
	for _, ask := range []func(context.Context) error{
		p.readBack, p.checksum, p.contentMD5, p.payloadHash, p.conditionalPut, p.objectLock, p.deletion,
	} {
		if err := ask(ctx); err != nil {
			return p.a, fmt.Errorf("probe %s: %w", bucket, err)
		}
	}
	s.conditional.Store(p.a.ConditionalPut)
	s.ignoresSHA256.Store(!p.a.ChecksumVerified && !p.a.PayloadHashVerified)
	return p.a, nil
}

// note adds what was observed to the notes.
func (p *probe) note(ok bool, what, detail string) bool {
	word := "no "
	if ok {
		word = "yes"
	}
	p.a.Notes = append(p.a.Notes, fmt.Sprintf("%s  %s: %s", word, what, detail))
	return ok
}

// key names an object of this run. The run removes it at its end.
func (p *probe) key(name string) string {
	key := p.prefix + name
	p.written = append(p.written, key)
	return key
}

// unanswered reports whether err leaves an ability unknown.
func unanswered(err error) bool {
	return errors.Is(err, blob.ErrUnavailable) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// read returns the bytes under key, or nil if there is no object.
func (p *probe) read(ctx context.Context, key string) ([]byte, error) {
	r, _, err := p.Get(ctx, p.bucket, key)
	if errors.Is(err, blob.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	return io.ReadAll(io.LimitReader(r, blob.MaxBody))
}

func (p *probe) readBack(ctx context.Context) error {
	key, body := p.key("read-back"), []byte("must be read back unchanged: "+p.prefix)
	c, err := newContent(body, true)
	if err != nil {
		return err
	}
	err = p.try(ctx, "probe", func(ctx context.Context) error {
		return p.put(ctx, p.bucket, key, c, false)
	})
	if err != nil && !errors.Is(err, blob.ErrMismatch) {
		return err
	}
	p.a.ETagMD5 = err == nil
	got, err := p.read(ctx, key)
	if err != nil {
		return err
	}
	p.a.ReadBack = p.note(bytes.Equal(got, body), "read-back", "an object was read back byte for byte")
	p.note(p.a.ETagMD5, "etag", "the ETag of a put is the MD5 of its bytes")
	return nil
}

// refused puts a body with a digest that does not match it. It reports whether
// the server refused it and stored nothing.
func (p *probe) refused(ctx context.Context, name, what string, spoil func(*content), hash string) (bool, error) {
	key := p.key(name)
	c, err := newContent([]byte("the digest of these bytes was altered: "+p.prefix), true)
	if err != nil {
		return false, err
	}
	if hash == "" {
		hash = c.payloadHash()
	}
	spoil(&c)
	var no error // the wanted refusal, which is not retried
	putErr := p.try(ctx, "probe", func(ctx context.Context) error {
		_, err := p.client.PutObject(ctx, c.input(p.bucket, key), signedHash(hash), p.seeServer)
		if no = nil; errors.Is(kindOf(err), errGarbled) {
			no, err = err, nil
		}
		return err
	})
	if putErr == nil {
		putErr = no
	}
	if unanswered(putErr) {
		return false, putErr
	}
	got, err := p.read(ctx, key)
	if err != nil {
		return false, err
	}
	switch {
	case putErr == nil:
		return p.note(false, what, "a put with a wrong digest was accepted"), nil
	case got != nil:
		return p.note(false, what, "a put with a wrong digest was refused, but stored"), nil
	}
	return p.note(true, what, "a put with a wrong digest was refused and nothing was stored"), nil
}

func (p *probe) checksum(ctx context.Context) (err error) {
	p.a.ChecksumVerified, err = p.refused(ctx, "checksum", "x-amz-checksum-sha256",
		func(c *content) { c.sha256[0] ^= 1 }, "")
	return err
}

func (p *probe) contentMD5(ctx context.Context) (err error) {
	p.a.ContentMD5Verified, err = p.refused(ctx, "content-md5", "content-md5",
		func(c *content) { c.md5[0] ^= 1 }, "")
	return err
}

func (p *probe) payloadHash(ctx context.Context) (err error) {
	other, err := newContent([]byte("other bytes"), true)
	if err != nil {
		return err
	}
	p.a.PayloadHashVerified, err = p.refused(ctx, "payload-hash", "x-amz-content-sha256",
		func(*content) {}, other.payloadHash())
	return err
}

// conditionalPut first tries to overwrite, then lets eight writers race:
// SeaweedFS 3.97 to 4.17 honours the header, but not atomically.
func (p *probe) conditionalPut(ctx context.Context) error {
	const what = "conditional put"
	key, first := p.key("conditional"), []byte("the first writer: "+p.prefix)
	if err := p.putIfAbsent(ctx, key, first); err != nil {
		if unanswered(err) {
			return err
		}
		p.note(false, what, "If-None-Match: * on a free key was refused")
		return nil
	}
	second := p.putIfAbsent(ctx, key, []byte("the second writer: "+p.prefix))
	if unanswered(second) {
		return second
	}
	got, err := p.read(ctx, key)
	if err != nil {
		return err
	}
	if !errors.Is(second, errPrecondition) || !bytes.Equal(got, first) {
		p.note(false, what, "If-None-Match: * did not keep the existing object")
		return nil
	}
	return p.race(ctx, what)
}

func (p *probe) race(ctx context.Context, what string) error {
	key := p.key("race")
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() { errs[i] = p.putIfAbsent(ctx, key, fmt.Appendf(nil, "writer %d: %s", i, p.prefix)) })
	}
	wg.Wait()
	won := -1
	for i, err := range errs {
		if unanswered(err) {
			return err
		}
		if err == nil && won >= 0 {
			p.note(false, what, "of eight concurrent writers more than one won: it is not atomic")
			return nil
		}
		if err == nil {
			won = i
		}
	}
	got, err := p.read(ctx, key)
	if err != nil {
		return err
	}
	if won < 0 || !bytes.Equal(got, fmt.Appendf(nil, "writer %d: %s", won, p.prefix)) {
		p.note(false, what, "of eight concurrent writers none won, or the object is not the winner's")
		return nil
	}
	p.a.ConditionalPut = p.note(true, what, "If-None-Match: * kept the object, and of eight concurrent writers one won")
	return nil
}

func (p *probe) putIfAbsent(ctx context.Context, key string, body []byte) error {
	c, err := newContent(body, true)
	if err != nil {
		return err
	}
	return p.once(ctx, func(ctx context.Context) error { return p.put(ctx, p.bucket, key, c, true) })
}

func (p *probe) deletion(ctx context.Context) error {
	key := p.prefix + "read-back"
	_, err := p.client.DeleteObject(ctx, &awss3.DeleteObjectInput{Bucket: &p.bucket, Key: &key})
	if err = typed(ctx, err); unanswered(err) {
		return err
	}
	got, readErr := p.read(ctx, key)
	if readErr != nil {
		return readErr
	}
	p.a.DeleteTruthful = p.note(err == nil && got == nil, "delete", "a deleted object could no longer be read")
	return nil
}

// clean removes the probe's objects. A failure leaves small objects below
// .probe/.
func (p *probe) clean(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	for _, key := range p.written {
		if err := p.Delete(ctx, p.bucket, key); err != nil {
			p.log.WarnContext(ctx, "s3: could not remove a probe object", "key", key, "error", err)
			return
		}
	}
}

// seeServer notes the Server header of the answer.
func (p *probe) seeServer(o *awss3.Options) {
	o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
		return stack.Deserialize.Add(middleware.DeserializeMiddlewareFunc("relaySeeServer",
			func(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (
				middleware.DeserializeOutput, middleware.Metadata, error,
			) {
				out, meta, err := next.HandleDeserialize(ctx, in)
				if resp, ok := out.RawResponse.(*smithyhttp.Response); ok && resp != nil {
					p.a.Server = resp.Header.Get("Server")
				}
				return out, meta, err
			}), middleware.Before)
	})
}
