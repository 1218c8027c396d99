// Package proof defines the texts with which anyone can check the evidence log
// offline: the signed checkpoint (C2SP tlog-checkpoint over signed-note), which
// states the log's name, size and Merkle root, the inclusion proof (C2SP
// tlog-proof@v1), which proves that an entry is in the tree of a checkpoint,
// and the consistency proof between two trees. Parsing is strict: there is one
// text for each value, so that every changed byte is noticed.
package proof

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Errors that callers decide by.
var (
	// ErrMalformed: the text does not have the specified form.
	ErrMalformed = errors.New("proof: malformed")
	// ErrSignature: there is no valid signature by the expected key.
	ErrSignature = errors.New("proof: not signed by the log's key")
	// ErrOrigin: the checkpoint belongs to another log.
	ErrOrigin = errors.New("proof: checkpoint of another log")
	// ErrInclusion: the hashes do not lead from the entry, or the older tree,
	// to the root.
	ErrInclusion = errors.New("proof: entry is not in the tree")
)

// algEd25519 is the signature type of plain Ed25519 (C2SP signed-note).
const algEd25519 = 1

// maxSize bounds a tree's entries: far more than can be written, and safe for
// int64 arithmetic.
const maxSize = 1 << 60

// MaxText bounds a checkpoint and a proof, in bytes: 64 hashes and a few
// signatures.
const MaxText = 64 << 10

// Checkpoint is a log's signed tree head.
type Checkpoint struct {
	// Origin names the log; it is also the name of its key.
	Origin string
	// Size is the number of entries.
	Size int64
	// Root is the RFC 6962 Merkle tree hash at that size.
	Root tlog.Hash
	// Note is the signed text, as it is stored and published.
	Note []byte
}

// ValidOrigin reports whether s can name a log and its key: 1 to 255 bytes of
// UTF-8 without spaces, control characters and "+" (C2SP signed-note).
func ValidOrigin(s string) bool {
	return s != "" && len(s) <= 255 && utf8.ValidString(s) && !strings.ContainsRune(s, '+') &&
		strings.IndexFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) < 0
}

// NewSigner returns the log's signer and its public key in text form
// ("origin+hash+base64", a vkey of C2SP signed-note).
func NewSigner(origin string, key ed25519.PrivateKey) (note.Signer, string, error) {
	if !ValidOrigin(origin) {
		return nil, "", fmt.Errorf("%w: origin %q", ErrMalformed, origin)
	}
	pub := key.Public().(ed25519.PublicKey)
	vkey, err := note.NewEd25519VerifierKey(origin, pub)
	if err != nil {
		return nil, "", fmt.Errorf("log's public key: %w", err)
	}
	enc := append([]byte{algEd25519}, key.Seed()...)
	id := sha256.Sum256(append([]byte(origin+"\n"), append([]byte{algEd25519}, pub...)...))
	skey := fmt.Sprintf("PRIVATE+KEY+%s+%08x+%s", origin, binary.BigEndian.Uint32(id[:4]), base64.StdEncoding.EncodeToString(enc))
	s, err := note.NewSigner(skey)
	if err != nil {
		return nil, "", fmt.Errorf("log's signing key: %w", err)
	}
	return s, vkey, nil
}

// Sign returns the signed checkpoint of a tree. The signer's name is the
// origin.
func Sign(s note.Signer, size int64, root tlog.Hash) (Checkpoint, error) {
	text := fmt.Sprintf("%s\n%d\n%s\n", s.Name(), size, base64.StdEncoding.EncodeToString(root[:]))
	msg, err := note.Sign(&note.Note{Text: text}, s)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("sign checkpoint: %w", err)
	}
	return Checkpoint{Origin: s.Name(), Size: size, Root: root, Note: msg}, nil
}

// Open verifies a checkpoint with the log's public key, checks that its origin
// is the key's name, and parses it. It returns ErrMalformed, ErrSignature or
// ErrOrigin.
func Open(msg []byte, v note.Verifier) (Checkpoint, error) {
	if len(msg) > MaxText {
		return Checkpoint{}, fmt.Errorf("%w: checkpoint of %d bytes", ErrMalformed, len(msg))
	}
	n, err := note.Open(msg, note.VerifierList(v))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w (%s): %w", ErrSignature, v.Name(), err)
	}
	c, err := parseTree(n.Text)
	if err != nil {
		return Checkpoint{}, err
	}
	if c.Origin != v.Name() {
		return Checkpoint{}, fmt.Errorf("%w: its origin is %q, the key's name is %q", ErrOrigin, c.Origin, v.Name())
	}
	c.Note = bytes.Clone(msg)
	return c, nil
}

// parseTree parses the three mandatory lines. It refuses extension lines: relay
// writes none, and the tree does not cover them.
func parseTree(text string) (Checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[3] != "" || !ValidOrigin(lines[0]) {
		return Checkpoint{}, fmt.Errorf("%w: checkpoint needs three lines: origin, size, root", ErrMalformed)
	}
	size, err := parseSize(lines[1])
	if err != nil {
		return Checkpoint{}, err
	}
	root, err := parseHash(lines[2])
	if err != nil {
		return Checkpoint{}, err
	}
	return Checkpoint{Origin: lines[0], Size: size, Root: root}, nil
}

// parseSize parses an ASCII decimal without leading zeroes or sign.
func parseSize(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > maxSize || strconv.FormatInt(n, 10) != s {
		return 0, fmt.Errorf("%w: %q is not a size or an index", ErrMalformed, clip(s))
	}
	return n, nil
}

func parseHash(s string) (tlog.Hash, error) {
	var h tlog.Hash
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != tlog.HashSize || len(s) != base64.StdEncoding.EncodedLen(tlog.HashSize) {
		return h, fmt.Errorf("%w: %q is not a base64 SHA-256", ErrMalformed, clip(s))
	}
	copy(h[:], b)
	return h, nil
}

// clip bounds outside text in errors.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}
