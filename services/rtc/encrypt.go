package rtc

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"

	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
)

// The labels of RFC 3711 section 4.3.2.
const (
	labelKey  = 0
	labelSalt = 2
)

// Encrypter encrypts outgoing RTP. For AEAD_AES_128_GCM (RFC 7714), which LiveKit
// prefers, it produces the same bytes as pion/srtp without parsing the header that
// the caller has just written and without looking up what the caller knows. It
// leaves other profiles to pion. Only one goroutine at a time may use it.
type Encrypter struct {
	aead   cipher.AEAD
	salt   [12]byte
	nonce  [12]byte
	other  *srtp.Context
	header rtp.Header
}

// NewEncrypter returns an encrypter for a master key and salt; most callers use
// [Publisher.Encrypter]. With AEAD_AES_128_GCM it fails unless they have 16 and 12
// bytes.
func NewEncrypter(key, salt []byte, profile srtp.ProtectionProfile) (*Encrypter, error) {
	e := &Encrypter{}
	if profile != srtp.ProtectionProfileAeadAes128Gcm {
		var err error
		if e.other, err = srtp.CreateContext(key, salt, profile); err != nil {
			return nil, fmt.Errorf("SRTP: %w", err)
		}
		return e, nil
	}
	var session [16]byte
	if err := derive(session[:], labelKey, key, salt); err != nil {
		return nil, err
	}
	if err := derive(e.salt[:], labelSalt, key, salt); err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(session[:])
	if err == nil {
		e.aead, err = cipher.NewGCM(block)
	}
	if err != nil {
		return nil, fmt.Errorf("SRTP: %w", err)
	}
	return e, nil
}

// derive is AES-CM's key derivation at rate 0 for at most one block (RFC 3711
// section 4.3.1; RFC 7714 section 11: the 96 bits of the salt come first).
func derive(out []byte, label byte, key, salt []byte) error {
	block, err := aes.NewCipher(key)
	if err != nil {
		return fmt.Errorf("SRTP: %w", err)
	}
	var in, all [aes.BlockSize]byte
	if n := copy(in[:], salt); n != 12 {
		return fmt.Errorf("SRTP: a master salt of %d bytes, want 12", n)
	}
	in[7] ^= label
	block.Encrypt(all[:], in[:])
	copy(out, all[:])
	return nil
}

// EncryptRTP encrypts a packet in place, after its header of head bytes, and returns
// it with its authentication tag: at most 16 bytes longer, for which p needs the
// capacity. Index is the packet's extended sequence number (RFC 3711 section 3.3.1).
func (e *Encrypter) EncryptRTP(p []byte, head int, ssrc uint32, index uint64) ([]byte, error) {
	if e.aead == nil {
		return e.other.EncryptRTP(p[:0], p, &e.header)
	}
	// RFC 7714 section 8.1.
	e.nonce = e.salt
	for i, b := range binary.BigEndian.AppendUint32(make([]byte, 0, 4), ssrc) {
		e.nonce[2+i] ^= b
	}
	for i, b := range binary.BigEndian.AppendUint64(make([]byte, 0, 8), index)[2:] {
		e.nonce[6+i] ^= b
	}
	return e.aead.Seal(p[:head], e.nonce[:], p[head:], p[:head]), nil
}
