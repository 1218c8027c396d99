package capture

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"hash/crc32"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/format/manifest"
)

func framed(kind byte, p []byte) []byte {
	b := make([]byte, headerLen+len(p))
	putHeader(b, kind, time.Unix(1, 2), p)
	copy(b[headerLen:], p)
	return b
}

// After a changed bit or a cut, only the frames before it are read.
func TestFramesEndAtTheFirstDamage(t *testing.T) {
	parts := [][]byte{framed(frameData, []byte("one")), framed(frameLast, nil), framed(frameData, bytes.Repeat([]byte("x"), 300))}
	whole := bytes.Join(parts, nil)
	walk := func(b []byte) (payloads []string, n int) {
		n = walkFrames(b, func(f frame) { payloads = append(payloads, string(f.payload)) })
		return payloads, n
	}
	all, n := walk(whole)
	require.Equal(t, len(whole), n)
	require.Len(t, all, 3)
	intact := func(at int) (frames, size int) {
		for _, p := range parts {
			if size+len(p) > at {
				break
			}
			size += len(p)
			frames++
		}
		return frames, size
	}
	for i := range whole {
		frames, size := intact(i)
		got, n := walk(whole[:i])
		require.Equal(t, size, n)
		require.Len(t, got, frames)
		for bit := range 8 {
			bad := bytes.Clone(whole)
			bad[i] ^= 1 << bit
			got, n := walk(bad)
			require.Equal(t, size, n, "byte %d bit %d", i, bit)
			require.Equal(t, all[:frames:frames], append([]string{}, got...))
		}
	}
	_, n = walk(make([]byte, 4096))
	require.Zero(t, n, "zeros are no frames")
}

func FuzzFrames(f *testing.F) {
	f.Add(framed(frameData, []byte("one")))
	f.Add(append(framed(frameGap, []byte("{}")), 1, 2, 3))
	f.Add(make([]byte, 64))
	f.Fuzz(func(t *testing.T, b []byte) {
		sum := 0
		n := walkFrames(b, func(fr frame) {
			again := make([]byte, headerLen)
			putHeader(again, fr.kind, fr.at, fr.payload)
			require.Equal(t, b[sum:sum+headerLen], again, "a frame has one form")
			sum += headerLen + len(fr.payload)
		})
		require.Equal(t, sum, n)
	})
}

func encryptedFile(t testing.TB, body []byte) []byte {
	t.Helper()
	record, err := json.Marshal(manifest.Segment{Seq: 4, CipherSHA256: manifest.SHA256(body), CipherLen: int64(len(body))})
	require.NoError(t, err)
	b := []byte(encryptedMagic)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(record)))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(record, crcTable))
	return append(append(b, record...), body...)
}

func TestEncryptedFileIsWholeOrRefused(t *testing.T) {
	whole := encryptedFile(t, []byte("ciphertext"))
	seg, body, err := parseEncrypted(whole)
	require.NoError(t, err)
	require.EqualValues(t, 4, seg.Seq)
	require.Equal(t, "ciphertext", string(body))
	for i := range whole {
		_, _, err := parseEncrypted(whole[:i])
		require.ErrorIs(t, err, errDamagedFile)
		bad := bytes.Clone(whole)
		bad[i] ^= 0x40
		_, _, err = parseEncrypted(bad)
		require.ErrorIs(t, err, errDamagedFile, "byte %d", i)
	}
}

func FuzzParseEncrypted(f *testing.F) {
	f.Add(encryptedFile(f, []byte("ciphertext")))
	f.Add([]byte(encryptedMagic + "\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		seg, body, err := parseEncrypted(b)
		if err == nil {
			require.Equal(t, seg.CipherSHA256, manifest.SHA256(body))
		}
	})
}
