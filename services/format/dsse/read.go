package dsse

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/edwards25519"
)

// Envelope is an envelope whose payload may be too large for memory: it is read
// in place, as often as needed.
type Envelope struct {
	// KeyID is a hint which key to verify with; it is not signed.
	KeyID string

	payloadType string
	sig         []byte
	in          io.ReaderAt
	from, text  int64 // where the payload's base64 begins, and its length
	size        int64 // the payload's length
}

// maxTail bounds the part of an envelope behind its payload, in bytes.
const maxTail = 256

// Read checks the form of an envelope of size bytes with this payload type. It
// verifies no signature, and returns ErrSignature if the form is not the one
// that Sign gives.
func Read(in io.ReaderAt, size int64, payloadType string) (*Envelope, error) {
	bad := func(what string) (*Envelope, error) {
		return nil, fmt.Errorf("%w: %s", ErrSignature, what)
	}
	head := []byte(`{"payloadType":"` + payloadType + `","payload":"`)
	if size < int64(len(head)) {
		return bad("not an envelope of " + payloadType)
	}
	got := make([]byte, len(head))
	if err := readAt(in, got, 0); err != nil {
		return nil, err
	}
	if !bytes.Equal(got, head) {
		return bad("not an envelope of " + payloadType)
	}
	tail := make([]byte, min(size-int64(len(head)), maxTail))
	if err := readAt(in, tail, size-int64(len(tail))); err != nil {
		return nil, err
	}
	mark := bytes.IndexByte(tail, '"') // base64 has no quotation mark
	if mark < 0 {
		return bad("no signature")
	}
	e := &Envelope{payloadType: payloadType, in: in, from: int64(len(head)), text: size - int64(len(head)) - int64(len(tail)) + int64(mark)}
	return e, e.parseTail(string(tail[mark:]))
}

// parseTail parses what follows the payload's base64.
func (e *Envelope) parseTail(s string) error {
	s, ok1 := strings.CutPrefix(s, `","signatures":[{"keyid":"`)
	s, ok2 := strings.CutSuffix(s, `"}]}`)
	id, sig, ok3 := strings.Cut(s, `","sig":"`)
	if !ok1 || !ok2 || !ok3 || e.text%4 != 0 {
		return fmt.Errorf("%w: not the form that it was written in", ErrSignature)
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(sig)
	if err != nil || len(raw) != ed25519.SignatureSize || len(sig) != base64.StdEncoding.EncodedLen(len(raw)) {
		return fmt.Errorf("%w: not a signature in base64", ErrSignature)
	}
	e.KeyID, e.sig, e.size = id, raw, e.text/4*3
	if e.text == 0 {
		return nil
	}
	end := make([]byte, 2)
	if err := readAt(e.in, end, e.from+e.text-2); err != nil {
		return err
	}
	e.size -= int64(bytes.Count(end, []byte("=")))
	return nil
}

// Payload returns a reader of the payload. It returns ErrSignature for what is
// not strict standard base64. Before Verify has succeeded, nothing is known
// about what it returns.
func (e *Envelope) Payload() io.Reader {
	raw := &alphabet{in: io.NewSectionReader(e.in, e.from, e.text), left: e.text}
	return &exact{in: base64.NewDecoder(base64.StdEncoding.Strict(), raw), left: e.size}
}

// Verify checks the signature without holding the payload in memory. The key id
// must be pub's.
func (e *Envelope) Verify(pub ed25519.PublicKey) error {
	id, err := KeyID(pub)
	if err != nil {
		return err
	}
	if e.KeyID != id {
		return fmt.Errorf("%w by key %s: it names another one", ErrSignature, id)
	}
	// RFC 8032 §5.1.7: SHA-512(R || A || M), with the steps of
	// crypto/ed25519.Verify, which needs all of M at once.
	h := sha512.New()
	h.Write(e.sig[:32])
	h.Write(pub)
	h.Write(paeHead(e.payloadType, e.size))
	if _, err := io.Copy(h, e.Payload()); err != nil {
		return err
	}
	if !check(pub, e.sig, h.Sum(nil)) {
		return fmt.Errorf("%w by key %s", ErrSignature, id)
	}
	return nil
}

// check reports whether [S]B = R + [k]A.
func check(pub ed25519.PublicKey, sig, digest []byte) bool {
	a, err := new(edwards25519.Point).SetBytes(pub)
	if err != nil {
		return false
	}
	k, err := edwards25519.NewScalar().SetUniformBytes(digest)
	if err != nil {
		return false
	}
	s, err := edwards25519.NewScalar().SetCanonicalBytes(sig[32:])
	if err != nil {
		return false
	}
	r := new(edwards25519.Point).VarTimeDoubleScalarBaseMult(k, new(edwards25519.Point).Negate(a), s)
	return bytes.Equal(sig[:32], r.Bytes())
}

// alphabet passes on base64 text. base64.NewDecoder would skip line breaks,
// and "=" belongs at the end only.
type alphabet struct {
	in   io.Reader
	left int64
}

func (a *alphabet) Read(p []byte) (int, error) {
	n, err := a.in.Read(p)
	for _, c := range p[:n] {
		a.left--
		ok := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '+' || c == '/' || c == '=' && a.left < 2
		if !ok {
			return 0, fmt.Errorf("%w: payload is not standard base64", ErrSignature)
		}
	}
	return n, err
}

// exact fails unless in has exactly left bytes and is valid base64.
type exact struct {
	in   io.Reader
	left int64
}

func (x *exact) Read(p []byte) (int, error) {
	n, err := x.in.Read(p)
	x.left -= int64(n)
	switch {
	case x.left < 0, err == io.EOF && x.left != 0:
		return 0, fmt.Errorf("%w: payload is not standard base64", ErrSignature)
	case err != nil && err != io.EOF && !errors.Is(err, ErrSignature):
		return n, fmt.Errorf("%w: payload: %w", ErrSignature, err)
	}
	return n, err
}

func readAt(in io.ReaderAt, p []byte, at int64) error {
	if n, err := in.ReadAt(p, at); n < len(p) {
		return fmt.Errorf("read envelope: %w", err)
	}
	return nil
}

// SignerID is the key id of an envelope, "" if text does not have the form of
// one with any payload type. It is a hint which key to verify with, nothing
// more.
func SignerID(text []byte) string {
	rest, ok := bytes.CutPrefix(text, []byte(`{"payloadType":"`))
	typ, _, ok2 := bytes.Cut(rest, []byte(`"`))
	if !ok || !ok2 {
		return ""
	}
	e, err := Read(bytes.NewReader(text), int64(len(text)), string(typ))
	if err != nil {
		return ""
	}
	return e.KeyID
}
