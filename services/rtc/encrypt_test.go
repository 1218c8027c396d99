package rtc

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
	"github.com/stretchr/testify/require"
)

// TestEncryptRTP: the same bytes as pion/srtp, over three wraps of the sequence
// number, for each offered profile.
func TestEncryptRTP(t *testing.T) {
	for _, profile := range []srtp.ProtectionProfile{srtp.ProtectionProfileAeadAes128Gcm, srtp.ProtectionProfileAes128CmHmacSha1_80} {
		t.Run(profile.String(), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 2))
			random := func(n int) []byte {
				b := make([]byte, n)
				for i := range b {
					b[i] = byte(rng.Uint32())
				}
				return b
			}
			saltLen, err := profile.SaltLen()
			require.NoError(t, err)
			key, salt := random(16), random(saltLen)
			ours, err := NewEncrypter(key, salt, profile)
			require.NoError(t, err)
			pion, err := srtp.CreateContext(key, salt, profile)
			require.NoError(t, err)
			h := &rtp.Header{Version: 2, PayloadType: 96, SSRC: rng.Uint32(), SequenceNumber: 65530}
			require.NoError(t, h.SetExtension(3, random(8)))
			for index := uint64(h.SequenceNumber); index < 3<<16; index += 1 + rng.Uint64N(400) {
				h.SequenceNumber, h.Timestamp, h.Marker = uint16(index), rng.Uint32(), rng.Uint32()&1 == 0
				raw, err := (&rtp.Packet{Header: *h, Payload: random(rng.IntN(1200))}).Marshal()
				require.NoError(t, err)
				want, err := pion.EncryptRTP(nil, bytes.Clone(raw), &rtp.Header{})
				require.NoError(t, err)
				got, err := ours.EncryptRTP(append(make([]byte, 0, 2048), raw...), h.MarshalSize(), h.SSRC, index)
				require.NoError(t, err)
				require.Equal(t, want, got, "packet %d", index)
			}
		})
	}
	_, err := NewEncrypter(make([]byte, 16), make([]byte, 14), srtp.ProtectionProfileAeadAes128Gcm)
	require.ErrorContains(t, err, "14 bytes")
}
