package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/hashicorp/golang-lru/v2/expirable"
	"golang.org/x/sync/singleflight"
)

// Bounds of the traffic to the issuer, whatever callers send.
const (
	// maxKeySet bounds the key set's document in bytes.
	maxKeySet = 1 << 20
	// refillEvery is the time per fetch of the key set that unknown keys may
	// cause in the long run, and refills is how many they may cause at once: a
	// rotation is seen at once, and a flood of bad tokens costs one fetch per
	// refillEvery.
	refillEvery = 10 * time.Second
	refills     = 3
	// failurePause is the pause after a fetch that failed.
	failurePause = time.Second
	// absentTTL is how long a key id that the issuer did not have is refused
	// without asking again; absentSize bounds how many are remembered.
	absentTTL, absentSize = time.Minute, 4096
	// keysTTL is the age from which keys are fetched again while they are used,
	// so that one which the issuer has withdrawn stops being accepted.
	keysTTL = 5 * time.Minute
	// maxKeyID bounds a key id in bytes.
	maxKeyID = 256
)

// errNeedsIssuer: only the issuer can tell, and the caller did not want to wait.
var errNeedsIssuer = errors.New("auth: the issuer must be asked first")

// keySet is the issuer's keys as they were fetched last. It is safe for
// concurrent use.
type keySet struct {
	url    string
	client *http.Client
	now    func() time.Time
	fetch  singleflight.Group
	absent *expirable.LRU[string, struct{}] // key ids that the issuer did not have

	mu      sync.Mutex
	keys    []jose.JSONWebKey
	fetched time.Time // when keys were fetched last, zero before the first time
	left    float64   // fetches that may be made now
	counted time.Time // when left was counted last
	failed  time.Time // when the last fetch failed, zero after one that did not
}

func newKeySet(url string, client *http.Client) *keySet {
	return &keySet{url: url, client: client, now: time.Now, left: refills, absent: expirable.NewLRU[string, struct{}](absentSize, nil, absentTTL)}
}

// verify checks the signature. If wait is false it returns errNeedsIssuer rather
// than fetch. It returns ErrInvalid only if the keys that the issuer has now say
// so, and ErrIssuer if that cannot be known yet.
func (k *keySet) verify(ctx context.Context, jws *jose.JSONWebSignature, wait bool) error {
	id := jws.Signatures[0].Header.KeyID
	if len(id) > maxKeyID {
		return fmt.Errorf("%w: a key id of %d bytes", ErrInvalid, len(id))
	}
	known, ok := k.try(jws, id)
	if ok {
		if k.old() {
			k.start(context.Background()) // the client's timeout ends it; nobody waits
		}
		return nil
	}
	// A known key that does not fit is a forgery: an issuer never gives the id
	// of a key to another one.
	if known || k.absent.Contains(id) {
		return fmt.Errorf("%w: the signature is not of the issuer's key %q", ErrInvalid, id)
	}
	if !wait {
		return errNeedsIssuer
	}
	if err := k.refresh(ctx); err != nil {
		return err
	}
	if _, ok := k.try(jws, id); ok {
		return nil
	}
	k.absent.Add(id, struct{}{})
	return fmt.Errorf("%w: the issuer has no key %q", ErrInvalid, id)
}

// try reports whether a key of that id is known, and whether one verifies the
// signature. Without an id all keys are tried.
func (k *keySet) try(jws *jose.JSONWebSignature, id string) (known, ok bool) {
	k.mu.Lock()
	keys := k.keys
	k.mu.Unlock()
	for i := range keys {
		alg := keys[i].Algorithm
		if id != "" && keys[i].KeyID != id || alg != "" && alg != jws.Signatures[0].Header.Algorithm {
			continue
		}
		known = known || id != ""
		if _, err := jws.Verify(&keys[i]); err == nil {
			return true, true
		}
	}
	return known, false
}

// old reports whether the keys have reached keysTTL.
func (k *keySet) old() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.now().Sub(k.fetched) > keysTTL
}

// refresh fetches the keys and waits for that until ctx ends. It fails with
// ErrIssuer if the issuer does not answer, or was asked too often lately.
func (k *keySet) refresh(ctx context.Context) error {
	select {
	case got := <-k.start(context.WithoutCancel(ctx)):
		return got.Err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrIssuer, ctx.Err())
	}
}

// start fetches the keys; concurrent calls share one fetch.
func (k *keySet) start(ctx context.Context) <-chan singleflight.Result {
	return k.fetch.DoChan("", func() (any, error) {
		if err := k.mayFetch(); err != nil {
			return nil, err
		}
		keys, err := fetchKeys(ctx, k.client, k.url)
		k.mu.Lock()
		defer k.mu.Unlock()
		if err != nil {
			k.failed = k.now()
			return nil, fmt.Errorf("%w: %w", ErrIssuer, err)
		}
		k.keys, k.fetched, k.failed = keys, k.now(), time.Time{}
		return nil, nil
	})
}

// mayFetch counts one fetch.
func (k *keySet) mayFetch() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	if now.Sub(k.failed) < failurePause {
		return fmt.Errorf("%w: its keys could not be fetched a moment ago", ErrIssuer)
	}
	if k.fetched.IsZero() {
		return nil // without any key no token can be verified
	}
	if !k.counted.IsZero() {
		k.left = min(refills, k.left+float64(now.Sub(k.counted))/float64(refillEvery))
	}
	k.counted = now
	if k.left < 1 {
		return fmt.Errorf("%w: its keys were fetched a moment ago, and the token's was not among them", ErrIssuer)
	}
	k.left--
	return nil
}

// fetchKeys reads a JSON Web Key Set (RFC 7517 §5) and leaves out the keys that
// are of no use here.
func fetchKeys(ctx context.Context, client *http.Client, url string) ([]jose.JSONWebKey, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("fetch keys: %w", err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("fetch keys: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetch keys: %s answers %s", url, resp.Status)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxKeySet)).Decode(&set); err != nil {
		return nil, fmt.Errorf("fetch keys: read %s: %w", url, err)
	}
	var keys []jose.JSONWebKey
	for _, raw := range set.Keys {
		var key jose.JSONWebKey
		// A key of a kind that is not known here (RFC 7517 §5: "SHOULD ignore").
		if err := json.Unmarshal(raw, &key); err != nil || key.Use != "" && key.Use != "sig" || !key.IsPublic() {
			continue
		}
		keys = append(keys, key)
	}
	return keys, nil
}
