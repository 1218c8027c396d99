package proof_test

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/openova-io/bp-relay/services/format/proof"
)

// sample is a log of n entries with its signer.
func sample(t testing.TB, n int64) (note.Signer, note.Verifier, proof.Checkpoint, tlog.HashReader) {
	t.Helper()
	s, vkey, err := proof.NewSigner("relay.example/log", ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32)))
	require.NoError(t, err)
	v, err := note.NewVerifier(vkey)
	require.NoError(t, err)
	var hashes []tlog.Hash
	r := tlog.HashReaderFunc(func(at []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(at))
		for i, x := range at {
			out[i] = hashes[x]
		}
		return out, nil
	})
	for i := range n {
		hs, err := tlog.StoredHashes(i, body(i), r)
		require.NoError(t, err)
		hashes = append(hashes, hs...)
	}
	root, err := tlog.TreeHash(n, r)
	require.NoError(t, err)
	cp, err := proof.Sign(s, n, root)
	require.NoError(t, err)
	return s, v, cp, r
}

func body(i int64) []byte { return fmt.Appendf(nil, "entry %d", i) }

func TestProofsOfEveryEntryOfTreesOfManySizes(t *testing.T) {
	for _, n := range []int64{1, 2, 3, 7, 8, 100} {
		_, v, cp, r := sample(t, n)
		for i := range n {
			path, err := tlog.ProveRecord(n, i, r)
			require.NoError(t, err)
			text := proof.Inclusion{Index: i, Path: path, Note: cp.Note}.Marshal()
			p, err := proof.ParseInclusion(text)
			require.NoError(t, err)
			require.Equal(t, text, p.Marshal())
			_, err = p.Check(v, body(i))
			require.NoError(t, err)
			_, err = p.Check(v, body(i+1))
			require.ErrorIs(t, err, proof.ErrInclusion)
		}
	}
}

func TestTheFormIsTheSpecifications(t *testing.T) {
	_, _, cp, r := sample(t, 3)
	path, err := tlog.ProveRecord(3, 2, r)
	require.NoError(t, err)
	text := string(proof.Inclusion{Index: 2, Path: path, Note: cp.Note}.Marshal())
	// C2SP tlog-proof: header, index, one hash, empty line, checkpoint.
	require.Regexp(t, "^c2sp.org/tlog-proof@v1\nindex 2\n[A-Za-z0-9+/]{43}=\n\nrelay.example/log\n3\n[A-Za-z0-9+/]{43}=\n\n\u2014 relay.example/log [A-Za-z0-9+/]+=*\n$", text)
}

// Every changed byte of a checkpoint is refused.
func TestNoByteOfACheckpointCanChange(t *testing.T) {
	s, v, cp, _ := sample(t, 5)
	for i := range cp.Note {
		bad := bytes.Clone(cp.Note)
		bad[i] ^= 1
		got, err := proof.Open(bad, v)
		// Base64's last character has bits without a meaning.
		require.True(t, err != nil || (got.Size == 5 && got.Root == cp.Root && i >= len(bad)-4), "byte %d: %q", i, bad)
	}
	foreign, err := note.Sign(&note.Note{Text: "other.example/log\n5\n" + cp.Root.String() + "\n"}, s)
	require.NoError(t, err)
	_, err = proof.Open(foreign, v)
	require.ErrorIs(t, err, proof.ErrOrigin)
	for _, text := range []string{"relay.example/log\n05\n" + cp.Root.String() + "\n", "relay.example/log\n5\n", "relay.example/log\n5\nAA==\n", "relay.example/log\n5\n" + cp.Root.String() + "\nextension\n", "relay.example/log\n9223372036854775807\n" + cp.Root.String() + "\n"} {
		bad, err := note.Sign(&note.Note{Text: text}, s)
		require.NoError(t, err)
		_, err = proof.Open(bad, v)
		require.ErrorIs(t, err, proof.ErrMalformed, "%q", text)
	}
	_, _, err = proof.NewSigner("a log", ed25519.NewKeyFromSeed(make([]byte, 32)))
	require.ErrorIs(t, err, proof.ErrMalformed)
}

func FuzzParseInclusion(f *testing.F) {
	_, v, cp, r := sample(f, 7)
	path, err := tlog.ProveRecord(7, 3, r)
	require.NoError(f, err)
	f.Add(proof.Inclusion{Index: 3, Path: path, Note: cp.Note}.Marshal())
	f.Add([]byte("c2sp.org/tlog-proof@v1\nindex 0\n\nx"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := proof.ParseInclusion(text)
		if err != nil {
			return
		}
		require.Equal(t, text, p.Marshal(), "two texts for one proof")
		if _, err := p.Check(v, body(3)); err == nil {
			require.Equal(t, int64(3), p.Index)
		}
	})
}

func FuzzParseConsistency(f *testing.F) {
	_, v, cp, r := sample(f, 7)
	path, err := tlog.ProveTree(7, 3, r)
	require.NoError(f, err)
	old, err := tlog.TreeHash(3, r)
	require.NoError(f, err)
	f.Add(proof.Consistency{Old: 3, Path: path, Note: cp.Note}.Marshal())
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := proof.ParseConsistency(text)
		if err != nil {
			return
		}
		require.Equal(t, text, p.Marshal(), "two texts for one proof")
		if _, err := p.Check(v, old); err == nil {
			require.Contains(t, []int64{0, 3}, p.Old)
		}
	})
}

func FuzzOpen(f *testing.F) {
	_, v, cp, _ := sample(f, 7)
	f.Add(cp.Note)
	f.Fuzz(func(t *testing.T, text []byte) {
		if c, err := proof.Open(text, v); err == nil {
			require.Equal(t, cp.Root, c.Root, "accepted a checkpoint that was never signed")
		}
	})
}
