// Package keyring holds the installation's master secret and derives keys from
// it: the key that encrypts small secrets in the records (a capture's age
// identity, a target's password), the evidence log's signing key, and other
// keys, each for one purpose. The master secret is 32 random bytes in one file
// of mode 0600; derived keys are never written anywhere.
package keyring

import (
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/crypto/chacha20poly1305"
)

// masterLen is the length of the master secret in bytes.
const masterLen = 32

// ErrDecrypt: the ciphertext was made with another key or for another context,
// or was altered.
var ErrDecrypt = errors.New("keyring: cannot decrypt")

// Keyring derives keys from one master secret. It is safe for concurrent use.
type Keyring struct{ master [masterLen]byte }

// Load reads the master secret from path. If the file is missing, Load creates
// it with mode 0600 and fsyncs it. It refuses a file that others can read.
func Load(path string) (*Keyring, error) {
	k := new(Keyring)
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return k, k.create(path)
	}
	if err != nil {
		return nil, fmt.Errorf("open master key: %w", err)
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("stat master key: %w", err)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("master key %s has mode %04o: others can read it; chmod 600 it", path, st.Mode().Perm())
	}
	if st.Size() != masterLen {
		return nil, fmt.Errorf("master key %s has %d bytes, want %d: restore it from the backup", path, st.Size(), masterLen)
	}
	if _, err := io.ReadFull(f, k.master[:]); err != nil {
		return nil, fmt.Errorf("read master key: %w", err)
	}
	return k, nil
}

// create writes a new secret beside path and links it into place. If two
// processes start at once, both use the file that was linked first.
func (k *Keyring) create(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make key folder: %w", err)
	}
	var fresh [masterLen]byte
	if _, err := rand.Read(fresh[:]); err != nil {
		return fmt.Errorf("random master key: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".master-*")
	if err != nil {
		return fmt.Errorf("create master key: %w", err)
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	_, err = tmp.Write(fresh[:])
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return fmt.Errorf("write master key: %w", err)
	}
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("place master key: %w", err)
	}
	won, err := Load(path)
	if err != nil {
		return err
	}
	k.master = won.master
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("open key folder: %w", err)
	}
	defer func() { _ = d.Close() }()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync key folder: %w", err)
	}
	return nil
}

// New returns a keyring of a given master secret, which must have 32 bytes: for
// tests, and for installations that inject it.
func New(master []byte) (*Keyring, error) {
	if len(master) != masterLen {
		return nil, fmt.Errorf("master key has %d bytes, want %d", len(master), masterLen)
	}
	k := new(Keyring)
	copy(k.master[:], master)
	return k, nil
}

// Key derives n bytes (at most 255*32) for a purpose: HKDF-SHA256, RFC 5869.
func (k *Keyring) Key(purpose string, n int) []byte {
	out, err := hkdf.Key(sha256.New, k.master[:], nil, "bp-relay/v1/"+purpose, n)
	if err != nil { // only for n out of bounds: a programming error
		panic(err)
	}
	return out
}

// Ed25519 derives a signing key for a purpose.
func (k *Keyring) Ed25519(purpose string) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(k.Key("ed25519/"+purpose, ed25519.SeedSize))
}

// Encrypt encrypts plain with XChaCha20-Poly1305 and puts the random nonce in
// front. context is the name of the resource that plain belongs to; it is
// authenticated, not contained.
func (k *Keyring) Encrypt(context string, plain []byte) ([]byte, error) {
	a := k.aead()
	nonce := make([]byte, a.NonceSize(), a.NonceSize()+len(plain)+a.Overhead())
	if _, err := rand.Read(nonce); err != nil {
		return nil, fmt.Errorf("random nonce: %w", err)
	}
	return a.Seal(nonce, nonce, plain, []byte(context)), nil
}

// Decrypt returns what Encrypt was given for the same context. Its only error
// is ErrDecrypt.
func (k *Keyring) Decrypt(context string, ciphertext []byte) ([]byte, error) {
	a := k.aead()
	if len(ciphertext) < a.NonceSize() {
		return nil, ErrDecrypt
	}
	plain, err := a.Open(nil, ciphertext[:a.NonceSize()], ciphertext[a.NonceSize():], []byte(context))
	if err != nil {
		return nil, ErrDecrypt
	}
	return plain, nil
}

func (k *Keyring) aead() cipher.AEAD {
	a, err := chacha20poly1305.NewX(k.Key("seal", chacha20poly1305.KeySize))
	if err != nil { // only for a wrong key length: a programming error
		panic(err)
	}
	return a
}
