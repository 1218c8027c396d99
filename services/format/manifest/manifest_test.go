package manifest_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/format/manifest"
)

var epoch = time.Date(2026, 3, 4, 5, 6, 7, 891000, time.UTC)

const name = "orgs/acme/captures/c1"

// sample is a sealed manifest of two streams, n segments each.
func sample(t *testing.T, n int) manifest.Manifest {
	t.Helper()
	m := manifest.Manifest{
		V: manifest.Version, Capture: name, Owner: "orgs/acme/recordings/r1", Org: "acme", Bucket: "b", Mode: "required",
		Retention: "standard", Attributes: map[string]string{"z": "é\u2028<", "a": ""}, Actor: "u1",
		Start: epoch, End: epoch.Add(time.Hour), Clock: manifest.Clock{Source: "unsynchronised"}, KeyID: "age1pq1abc",
	}
	for _, stream := range []string{"audio", "video"} {
		c := manifest.NewChain(name, stream)
		s := manifest.StreamManifest{Name: stream, MediaType: "video/webm", Ext: ".webm"}
		for i := range n {
			g := manifest.Segment{
				Seq: int64(i), Start: epoch.Add(time.Duration(i) * time.Second), End: epoch.Add(time.Duration(i+1) * time.Second),
				Offset: c.Bytes, PlainSHA256: manifest.SHA256([]byte{byte(i)}), PlainLen: int64(100 + i),
				CipherSHA256: manifest.SHA256([]byte{byte(i), 1}), CipherLen: int64(300 + i), Key: fmt.Sprintf("k/%08d", i),
			}
			if i%2 == 1 {
				g.Marks = []manifest.Mark{{Kind: "keyframe", At: g.Start, Offset: g.Offset, Attributes: map[string]string{"w": "1280"}}}
				g.Gaps = []manifest.Gap{{From: g.Start, To: g.End, Reason: "interrupted", Bytes: 9}}
				s.Gaps = append(s.Gaps, g.Gaps...)
			}
			require.NoError(t, c.Add(g))
			s.Segments = append(s.Segments, g)
		}
		s.Gaps = append(s.Gaps, manifest.Gap{From: epoch, Reason: "abandoned"})
		s.Bytes, s.CipherBytes, s.Count, s.Head = c.Bytes, c.CipherBytes, int(c.Next), c.Head
		m.Streams = append(m.Streams, s)
	}
	return m
}

func TestSignedManifestComesBackAndItsChainsHold(t *testing.T) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	m := sample(t, 5)
	env, err := manifest.Sign(m, key)
	require.NoError(t, err)
	again, err := manifest.Sign(m, key)
	require.NoError(t, err)
	require.Equal(t, env, again, "sealing twice must give the same object")

	got, err := manifest.Open(env, key.Public().(ed25519.PublicKey))
	require.NoError(t, err)
	require.Equal(t, m, got)
	require.NoError(t, got.Check())
	require.Equal(t, 10, got.Segments())
	require.Equal(t, 6, got.Gaps())
	require.Len(t, got.Streams[0].Marks(), 2)

	other := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{8}, ed25519.SeedSize))
	_, err = manifest.Open(env, other.Public().(ed25519.PublicKey))
	require.ErrorIs(t, err, manifest.ErrSignature)
}

// A changed byte of the envelope is an error, or gives the same manifest: base64
// and JSON have bytes without a meaning.
func TestNoByteOfAnEnvelopeCanChangeTheManifest(t *testing.T) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	m := sample(t, 2)
	env, err := manifest.Sign(m, key)
	require.NoError(t, err)
	refused := 0
	for i := range env {
		bad := bytes.Clone(env)
		bad[i] ^= 1
		got, err := manifest.Open(bad, key.Public().(ed25519.PublicKey))
		if err != nil {
			refused++
			continue
		}
		require.Equal(t, m, got, "byte %d", i)
	}
	require.Greater(t, refused, len(env)*9/10)
}

func TestCheckChainNamesWhatIsWrong(t *testing.T) {
	cut := func(s *manifest.StreamManifest, from, to int) {
		s.Segments = append(s.Segments[:from:from], s.Segments[to:]...)
	}
	for what, tamper := range map[string]func(s *manifest.StreamManifest){
		"one removed":         func(s *manifest.StreamManifest) { cut(s, 2, 3) },
		"last removed":        func(s *manifest.StreamManifest) { cut(s, 4, 5) },
		"last removed, count": func(s *manifest.StreamManifest) { cut(s, 4, 5); s.Count--; s.Bytes -= 104; s.CipherBytes -= 304 },
		"two swapped": func(s *manifest.StreamManifest) {
			s.Segments[1], s.Segments[2] = s.Segments[2], s.Segments[1]
		},
		"one repeated":    func(s *manifest.StreamManifest) { s.Segments[2] = s.Segments[1] },
		"one added":       func(s *manifest.StreamManifest) { s.Segments = append(s.Segments, s.Segments[4]) },
		"hash":            func(s *manifest.StreamManifest) { s.Segments[3].CipherSHA256 = manifest.SHA256(nil) },
		"plain hash":      func(s *manifest.StreamManifest) { s.Segments[3].PlainSHA256 = manifest.SHA256(nil) },
		"time":            func(s *manifest.StreamManifest) { s.Segments[0].Start = epoch.Add(time.Microsecond) },
		"key":             func(s *manifest.StreamManifest) { s.Segments[0].Key = "elsewhere" },
		"mark":            func(s *manifest.StreamManifest) { s.Segments[1].Marks[0].Offset++ },
		"gap":             func(s *manifest.StreamManifest) { s.Segments[1].Gaps = nil },
		"gap not listed":  func(s *manifest.StreamManifest) { s.Gaps = s.Gaps[1:] },
		"another stream":  func(s *manifest.StreamManifest) { s.Name = "screen" },
		"stated bytes":    func(s *manifest.StreamManifest) { s.Bytes++ },
		"negative length": func(s *manifest.StreamManifest) { s.Segments[4].PlainLen = -1 },
	} {
		t.Run(what, func(t *testing.T) {
			m := sample(t, 5)
			require.NoError(t, m.Check())
			tamper(&m.Streams[1])
			require.ErrorIs(t, m.Check(), manifest.ErrChain)
		})
	}
	m := sample(t, 1)
	m.Streams = append(m.Streams, m.Streams[0])
	require.ErrorIs(t, m.Check(), manifest.ErrChain)
	m = sample(t, 1)
	m.Capture = "orgs/acme/captures/other"
	require.ErrorIs(t, m.Check(), manifest.ErrChain)
}

// The hash must not depend on whether the record was made or parsed.
func TestHashIsTheSameAfterJSON(t *testing.T) {
	s := sample(t, 2).Streams[0].Segments[1]
	rec := manifest.Record{Segment: s, Prev: manifest.Genesis(name, "audio")}
	body, err := rec.Canonical()
	require.NoError(t, err)
	var back manifest.Record
	require.NoError(t, json.Unmarshal(body, &back))
	h1, err := s.Hash(rec.Prev)
	require.NoError(t, err)
	h2, err := back.Hash(back.Prev)
	require.NoError(t, err)
	require.Equal(t, h1, h2)
	require.Equal(t, h1, manifest.HashRecord(body))
	// A fixed vector for other verifiers; a Python script computed it, too.
	require.Equal(t, "856eb4fdde4c96ea63f8f710a62d34cc1ab1afb3842582ae0e705d42aebae9d8", h1)
}

func FuzzOpen(f *testing.F) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	env, err := manifest.Sign(manifest.Manifest{V: 1, Capture: name}, key)
	require.NoError(f, err)
	f.Add(env)
	f.Add([]byte(`{"payload":"","payloadType":"application/vnd.in-toto+json","signatures":[{}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := manifest.Open(b, key.Public().(ed25519.PublicKey))
		if err == nil {
			require.Equal(t, name, m.Capture, "accepted something that was never signed")
		}
	})
}
