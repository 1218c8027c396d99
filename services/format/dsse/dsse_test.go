package dsse_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	library "github.com/secure-systems-lab/go-securesystemslib/dsse"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/format/dsse"
)

const payloadType = "application/vnd.in-toto+json"

// key returns one of several fixed keys.
func key(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
}

func public(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

// libraryKey is an Ed25519 key for the reference library.
type libraryKey struct{ ed25519.PrivateKey }

func (k libraryKey) Sign(_ context.Context, data []byte) ([]byte, error) {
	return ed25519.Sign(k.PrivateKey, data), nil
}

func (k libraryKey) Verify(_ context.Context, data, sig []byte) error {
	if !ed25519.Verify(public(k.PrivateKey), data, sig) {
		return dsse.ErrSignature
	}
	return nil
}

func (k libraryKey) KeyID() (string, error)   { return library.SHA256KeyID(k.Public()) }
func (k libraryKey) Public() crypto.PublicKey { return public(k.PrivateKey) }

// payloads includes the empty one and bytes that are not UTF-8.
func payloads() [][]byte {
	return [][]byte{nil, []byte("{}"), []byte("hello world"), {0xff, 0, 0xfe}, bytes.Repeat([]byte("x"), 100_000)}
}

// The protocol's own test vector of the encoding (protocol.md, "Test Vectors").
func TestPAE(t *testing.T) {
	require.Equal(t, "DSSEv1 29 http://example.com/HelloWorld 11 hello world", string(dsse.PAE("http://example.com/HelloWorld", []byte("hello world"))))
	require.Equal(t, "DSSEv1 0  0 ", string(dsse.PAE("", nil)))
	require.Equal(t, library.PAE("é ", []byte{1, 0}), dsse.PAE("é ", []byte{1, 0}))
}

func TestLibraryVerifiesOurEnvelopes(t *testing.T) {
	verifier, err := library.NewEnvelopeVerifier(libraryKey{key(7)})
	require.NoError(t, err)
	for _, payload := range payloads() {
		text, err := dsse.Sign(payloadType, payload, key(7))
		require.NoError(t, err)
		var env library.Envelope
		require.NoError(t, json.Unmarshal(text, &env))
		_, got, err := verifier.VerifyAndDecode(t.Context(), &env)
		require.NoError(t, err)
		require.Equal(t, string(payload), string(got))
	}
}

func TestWeVerifyTheLibrarysEnvelopes(t *testing.T) {
	signer, err := library.NewEnvelopeSigner(libraryKey{key(7)})
	require.NoError(t, err)
	for _, payload := range payloads() {
		env, err := signer.SignPayload(t.Context(), payloadType, payload)
		require.NoError(t, err)
		text, err := json.Marshal(env)
		require.NoError(t, err)
		got, err := dsse.Open(text, payloadType, public(key(7)))
		require.NoError(t, err)
		require.Equal(t, string(payload), string(got))

		ours, err := dsse.Sign(payloadType, payload, key(7))
		require.NoError(t, err)
		require.Equal(t, string(text), string(ours), "the same bytes as the library")
		id, err := library.SHA256KeyID(public(key(7)))
		require.NoError(t, err)
		require.Equal(t, id, dsse.SignerID(text))
	}
}

// envelope is the JSON form, to make forms that Sign does not write.
type envelope struct {
	PayloadType string      `json:"payloadType"`
	Payload     string      `json:"payload"`
	Signatures  []signature `json:"signatures"`
}

type signature struct {
	KeyID string `json:"keyid"`
	Sig   string `json:"sig"`
}

func TestWhatIsRefused(t *testing.T) {
	payload := []byte{0xff, 0xfe, 0xfd, 0xfb}
	text, err := dsse.Sign(payloadType, payload, key(7))
	require.NoError(t, err)
	url := strings.NewReplacer("+", "-", "/", "_")
	for what, change := range map[string]func(e *envelope){
		"payload":            func(e *envelope) { e.Payload = base64.StdEncoding.EncodeToString([]byte("Payload")) },
		"payload type":       func(e *envelope) { e.PayloadType += "x" },
		"no signature":       func(e *envelope) { e.Signatures = nil },
		"key id":             func(e *envelope) { e.Signatures[0].KeyID += "x" },
		"no key id":          func(e *envelope) { e.Signatures[0].KeyID = "" },
		"short":              func(e *envelope) { e.Signatures[0].Sig = "AAAA" },
		"not base64":         func(e *envelope) { e.Signatures[0].Sig = "*" },
		"bad payload":        func(e *envelope) { e.Payload = "*" },
		"empty sig":          func(e *envelope) { e.Signatures[0].Sig = "" },
		"two":                func(e *envelope) { e.Signatures = append(e.Signatures, e.Signatures[0]) },
		"another first":      func(e *envelope) { e.Signatures = append([]signature{{KeyID: "other", Sig: "AAAA"}}, e.Signatures...) },
		"URL-safe payload":   func(e *envelope) { e.Payload = url.Replace(e.Payload) },
		"unpadded payload":   func(e *envelope) { e.Payload = strings.TrimRight(e.Payload, "=") },
		"line break":         func(e *envelope) { e.Payload = e.Payload[:4] + "\n" + e.Payload[4:] },
		"trailing bits":      func(e *envelope) { e.Payload = e.Payload[:5] + "x==" },
		"padding inside":     func(e *envelope) { e.Payload = "//==" + e.Payload },
		"unpadded signature": func(e *envelope) { e.Signatures[0].Sig = strings.TrimRight(e.Signatures[0].Sig, "=") },
	} {
		t.Run(what, func(t *testing.T) {
			var e envelope
			require.NoError(t, json.Unmarshal(text, &e))
			change(&e)
			bad, err := json.Marshal(e)
			require.NoError(t, err)
			require.NotEqual(t, string(text), string(bad))
			_, err = dsse.Open(bad, payloadType, public(key(7)))
			require.ErrorIs(t, err, dsse.ErrSignature)
		})
	}
	// A signature whose base64 has a character of the URL-safe alphabet.
	for seed := byte(1); ; seed++ {
		text, err := dsse.Sign(payloadType, payload, key(seed))
		require.NoError(t, err)
		var e envelope
		require.NoError(t, json.Unmarshal(text, &e))
		if other := url.Replace(e.Signatures[0].Sig); other != e.Signatures[0].Sig {
			_, err = dsse.Open(bytes.Replace(text, []byte(e.Signatures[0].Sig), []byte(other), 1), payloadType, public(key(seed)))
			require.ErrorIs(t, err, dsse.ErrSignature)
			break
		}
	}
	_, err = dsse.Open(text, payloadType, public(key(8)))
	require.ErrorIs(t, err, dsse.ErrSignature)
	_, err = dsse.Open(text, "another", public(key(7)))
	require.ErrorIs(t, err, dsse.ErrSignature)
	_, err = dsse.Open(text, payloadType, public(key(7))[:31])
	require.Error(t, err)
	for _, s := range []string{"", "{", "{}", `{"payloadType":""`} {
		_, err = dsse.Open([]byte(s), payloadType, public(key(7)))
		require.ErrorIs(t, err, dsse.ErrSignature)
		require.Empty(t, dsse.SignerID([]byte(s)))
	}
}

// An envelope has one form: any byte that is changed, added or left out is
// noticed.
func TestNoByteOfAnEnvelopeIsFree(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3, 100} {
		text, err := dsse.Sign(payloadType, bytes.Repeat([]byte{0xfb}, n), key(7))
		require.NoError(t, err)
		for i := range text {
			for bit := range 8 {
				bad := bytes.Clone(text)
				bad[i] ^= 1 << bit
				_, err := dsse.Open(bad, payloadType, public(key(7)))
				require.ErrorIs(t, err, dsse.ErrSignature, "byte %d bit %d", i, bit)
			}
			_, err := dsse.Open(append(bytes.Clone(text[:i]), text[i+1:]...), payloadType, public(key(7)))
			require.ErrorIs(t, err, dsse.ErrSignature, "byte %d left out", i)
			_, err = dsse.Open(append(append(bytes.Clone(text[:i]), ' '), text[i:]...), payloadType, public(key(7)))
			require.ErrorIs(t, err, dsse.ErrSignature, "a space before byte %d", i)
		}
	}
}

func FuzzOpen(f *testing.F) {
	text, err := dsse.Sign(payloadType, []byte("payload"), key(7))
	require.NoError(f, err)
	f.Add(text)
	f.Add([]byte(`{"payloadType":"","payload":"","signatures":[{}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := dsse.Open(b, payloadType, public(key(7))); err == nil {
			require.Equal(t, string(text), string(b), "accepted what was never signed")
		}
	})
}
