package peer

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

// seal encrypts outgoing RTP. With AEAD_AES_128_GCM, which LiveKit prefers, it
// does itself what pion/srtp does, without parsing headers that were just
// written and without looking up what the caller knows; other profiles are left
// to pion. It belongs to one goroutine at a time.
type seal struct {
	aead   cipher.AEAD
	salt   [12]byte
	nonce  [12]byte
	other  *srtp.Context
	header rtp.Header
}

func newSeal(key, salt []byte, profile srtp.ProtectionProfile) (*seal, error) {
	s := &seal{}
	if profile != srtp.ProtectionProfileAeadAes128Gcm {
		var err error
		if s.other, err = srtp.CreateContext(key, salt, profile); err != nil {
			return nil, fmt.Errorf("SRTP: %w", err)
		}
		return s, nil
	}
	var session [16]byte
	if err := derive(session[:], labelKey, key, salt); err != nil {
		return nil, err
	}
	if err := derive(s.salt[:], labelSalt, key, salt); err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(session[:])
	if err == nil {
		s.aead, err = cipher.NewGCM(block)
	}
	if err != nil {
		return nil, fmt.Errorf("SRTP: %w", err)
	}
	return s, nil
}

// derive is AES-CM's key derivation at rate 0 for at most a block (RFC 3711
// section 4.3.1; RFC 7714 section 11: the salt of 96 bits stands first).
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

// rtp encrypts a packet in place, behind its header of head bytes; there is room
// for flow.Tag bytes more. Index is the sequence number extended by how often it
// began anew (RFC 3711 section 3.3.1).
func (s *seal) rtp(p []byte, head int, ssrc uint32, index uint64) ([]byte, error) {
	if s.aead == nil {
		return s.other.EncryptRTP(p[:0], p, &s.header)
	}
	// RFC 7714 section 8.1.
	s.nonce = s.salt
	for i, b := range binary.BigEndian.AppendUint32(make([]byte, 0, 4), ssrc) {
		s.nonce[2+i] ^= b
	}
	for i, b := range binary.BigEndian.AppendUint64(make([]byte, 0, 8), index)[2:] {
		s.nonce[6+i] ^= b
	}
	return s.aead.Seal(p[:head], s.nonce[:], p[head:], p[:head]), nil
}
