// Package blobtest is the conformance suite of blob.Store (Run), and Faulty, a
// wrapper that makes a real store fail in chosen ways: a lost answer, a success
// that stored nothing, a read that ends early, zeros in the middle. Code that
// keeps recordings in a blob.Store is tested with both.
package blobtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/blob"
)

// Run checks store against the contract of blob.Store in bucket, which it
// creates. It does not touch the bucket's other content.
func Run(t *testing.T, store blob.Store, bucket string) {
	t.Helper()
	require.NoError(t, store.EnsureBucket(t.Context(), bucket))
	s := suite{store: store, bucket: bucket, prefix: "blobtest/" + hex.EncodeToString(Bytes(uint64(time.Now().UnixNano()), 6)) + "/"}
	for _, c := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"Ping", s.ping},
		{"EnsureBucketTwice", s.ensureTwice},
		{"PutGet", s.putGet},
		{"PutSameAgain", s.putSameAgain},
		{"PutOtherBytes", s.putOther},
		{"PutTooLarge", s.putTooLarge},
		{"Replace", s.replace},
		{"Missing", s.missing},
		{"FolderIsNoObject", s.folder},
		{"Delete", s.delete},
		{"Keys", s.keys},
		{"List", s.list},
		{"ListPages", s.listPages},
		{"ListStops", s.listStops},
		{"Concurrent", s.concurrent},
		{"CallerGoesAway", s.callerGoesAway},
		{"CloseEarly", s.closeEarly},
	} {
		t.Run(c.name, c.run)
	}
}

// Bytes returns n pseudo-random bytes that depend only on seed.
func Bytes(seed uint64, n int) []byte {
	p := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{0: byte(seed), 1: byte(seed >> 8), 2: byte(seed >> 16), 3: byte(seed >> 24), 4: byte(seed >> 32)}).Read(p) // never fails
	return p
}

// Key returns a content key: prefix and the SHA-256 of body.
func Key(prefix string, body []byte) string {
	sum := sha256.Sum256(body)
	return prefix + hex.EncodeToString(sum[:])
}

// ReadAll returns the bytes of the object under key.
func ReadAll(t testing.TB, store blob.Store, bucket, key string) []byte {
	t.Helper()
	r, size, err := store.Get(t.Context(), bucket, key)
	require.NoError(t, err)
	defer func() { _ = r.Close() }()
	p, err := io.ReadAll(r)
	require.NoError(t, err)
	if size >= 0 {
		require.Len(t, p, int(size))
	}
	return p
}

type suite struct {
	store          blob.Store
	bucket, prefix string
}

func (s suite) ping(t *testing.T) { require.NoError(t, s.store.Ping(t.Context())) }

func (s suite) ensureTwice(t *testing.T) {
	require.NoError(t, s.store.EnsureBucket(t.Context(), s.bucket))
	require.NoError(t, s.store.EnsureBucket(t.Context(), s.bucket))
}

func (s suite) putGet(t *testing.T) {
	for _, size := range []int{0, 1, 4096, 4 << 20, 4<<20 + 1, blob.MaxBody} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			body := Bytes(uint64(size)+1, size)
			key := Key(s.prefix+"put-get/", body)
			before := time.Now().Add(-2 * time.Second)
			require.NoError(t, s.store.Put(t.Context(), s.bucket, key, body))
			require.True(t, bytes.Equal(body, ReadAll(t, s.store, s.bucket, key)), "other bytes came back")
			obj, err := s.store.Stat(t.Context(), s.bucket, key)
			require.NoError(t, err)
			require.Equal(t, key, obj.Key)
			require.EqualValues(t, size, obj.Size)
			require.WithinRange(t, obj.Time, before, time.Now().Add(2*time.Second))
		})
	}
}

func (s suite) putSameAgain(t *testing.T) {
	body := Bytes(7, 10_000)
	key := Key(s.prefix+"same/", body)
	for range 3 {
		require.NoError(t, s.store.Put(t.Context(), s.bucket, key, body))
	}
	require.Equal(t, body, ReadAll(t, s.store, s.bucket, key))
}

func (s suite) putOther(t *testing.T) {
	key, first := s.prefix+"other", []byte("first bytes")
	require.NoError(t, s.store.Put(t.Context(), s.bucket, key, first))
	for _, other := range []string{"other bytes", "other bytes of another length", ""} {
		require.ErrorIs(t, s.store.Put(t.Context(), s.bucket, key, []byte(other)), blob.ErrExists)
		require.Equal(t, first, ReadAll(t, s.store, s.bucket, key), "the first bytes must stay")
	}
}

func (s suite) putTooLarge(t *testing.T) {
	key := s.prefix + "too-large"
	require.ErrorIs(t, s.store.Put(t.Context(), s.bucket, key, make([]byte, blob.MaxBody+1)), blob.ErrTooLarge)
	_, err := s.store.Stat(t.Context(), s.bucket, key)
	require.ErrorIs(t, err, blob.ErrNotFound)
}

func (s suite) replace(t *testing.T) {
	key := s.prefix + "pointer"
	for i := range 4 {
		body := fmt.Appendf(nil, "checkpoint %d%s", i, bytes.Repeat([]byte("x"), 10-i))
		require.NoError(t, s.store.Replace(t.Context(), s.bucket, key, body))
		require.Equal(t, body, ReadAll(t, s.store, s.bucket, key))
	}
}

func (s suite) missing(t *testing.T) {
	_, _, err := s.store.Get(t.Context(), s.bucket, s.prefix+"missing")
	require.ErrorIs(t, err, blob.ErrNotFound)
	_, err = s.store.Stat(t.Context(), s.bucket, s.prefix+"missing")
	require.ErrorIs(t, err, blob.ErrNotFound)
	_, _, err = s.store.Get(t.Context(), s.bucket+"-none", "missing")
	require.ErrorIs(t, err, blob.ErrNotFound)
}

func (s suite) folder(t *testing.T) {
	require.NoError(t, s.store.Put(t.Context(), s.bucket, s.prefix+"folder/a", []byte("a")))
	_, err := s.store.Stat(t.Context(), s.bucket, s.prefix+"folder")
	require.ErrorIs(t, err, blob.ErrNotFound)
	_, _, err = s.store.Get(t.Context(), s.bucket, s.prefix+"folder")
	require.ErrorIs(t, err, blob.ErrNotFound)
}

func (s suite) delete(t *testing.T) {
	key := s.prefix + "delete/me"
	require.NoError(t, s.store.Put(t.Context(), s.bucket, key, []byte("soon gone")))
	require.NoError(t, s.store.Delete(t.Context(), s.bucket, key))
	_, err := s.store.Stat(t.Context(), s.bucket, key)
	require.ErrorIs(t, err, blob.ErrNotFound)
	require.NoError(t, s.store.Delete(t.Context(), s.bucket, key), "deleting a missing object succeeds")
	require.NoError(t, s.store.Put(t.Context(), s.bucket, key, []byte("other bytes")), "the key is free again")
}

func (s suite) keys(t *testing.T) {
	for _, name := range []string{
		"orgs/acme/captures/0198/video.webm", "with space", "plus+plus", "per%20cent", "question?mark", "hash#mark",
		"umlaut-ä-snowman-☃", "a=b&c=d", "colon:semi;comma,", "~tilde'quote(paren)!*",
	} {
		t.Run(name, func(t *testing.T) {
			key := s.prefix + "keys/" + name
			require.NoError(t, s.store.Put(t.Context(), s.bucket, key, []byte(name)))
			require.Equal(t, name, string(ReadAll(t, s.store, s.bucket, key)))
			var found []string
			require.NoError(t, s.store.List(t.Context(), s.bucket, key, func(o blob.Object) error {
				found = append(found, o.Key)
				return nil
			}))
			require.Equal(t, []string{key}, found)
		})
	}
}

// listed returns the keys under prefix and checks the size of each object.
func (s suite) listed(t *testing.T, prefix string) []string {
	t.Helper()
	var keys []string
	require.NoError(t, s.store.List(t.Context(), s.bucket, prefix, func(o blob.Object) error {
		require.EqualValues(t, len(o.Key), o.Size, o.Key)
		require.False(t, o.Time.IsZero())
		keys = append(keys, o.Key)
		return nil
	}))
	return keys
}

// fill writes objects whose body is their key.
func (s suite) fill(t *testing.T, keys []string) {
	t.Helper()
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for w := range errs {
		wg.Go(func() {
			for i := w; i < len(keys); i += len(errs) {
				errs[w] = errors.Join(errs[w], s.store.Replace(t.Context(), s.bucket, keys[i], []byte(keys[i])))
			}
		})
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs...))
}

func (s suite) list(t *testing.T) {
	at := s.prefix + "list/"
	keys := []string{at + "a", at + "b/1", at + "b/2", at + "b/c/3", at + "d", at + "dd"}
	s.fill(t, keys)
	require.Equal(t, keys, s.listed(t, at))
	require.Equal(t, keys[1:4], s.listed(t, at+"b/"))
	require.Equal(t, keys[4:], s.listed(t, at+"d"), "a prefix need not be a folder")
	require.Empty(t, s.listed(t, at+"none/"))
	require.Equal(t, keys, s.listed(t, s.prefix+"list"))
}

func (s suite) listPages(t *testing.T) {
	// More than a page in one folder, and a folder exactly where a page ends.
	at := s.prefix + "pages/"
	var keys []string
	for i := range 1000 {
		keys = append(keys, fmt.Sprintf("%sf%04d", at, i))
	}
	for i := range 3 {
		keys = append(keys, fmt.Sprintf("%sg/%d", at, i))
	}
	for i := range 120 {
		keys = append(keys, fmt.Sprintf("%sh%04d", at, i))
	}
	s.fill(t, keys)
	got := s.listed(t, at)
	require.Len(t, got, len(keys))
	require.True(t, slices.IsSorted(got))
	require.Equal(t, keys, got)
}

func (s suite) listStops(t *testing.T) {
	at := s.prefix + "stops/"
	s.fill(t, []string{at + "a", at + "b"})
	enough, n := errors.New("enough"), 0
	err := s.store.List(t.Context(), s.bucket, at, func(blob.Object) error { n++; return enough })
	require.ErrorIs(t, err, enough)
	require.Equal(t, 1, n)
}

func (s suite) concurrent(t *testing.T) {
	var wg sync.WaitGroup
	errs := make([]error, 16)
	body := Bytes(11, 100_000)
	key := Key(s.prefix+"concurrent/", body)
	for i := range errs {
		wg.Go(func() { errs[i] = s.store.Put(t.Context(), s.bucket, key, body) })
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs...), "the same bytes at once all succeed")
	require.Equal(t, body, ReadAll(t, s.store, s.bucket, key))
}

func (s suite) callerGoesAway(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := s.store.Put(ctx, s.bucket, s.prefix+"gone", []byte("x"))
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, blob.ErrUnavailable, "the store is not to blame")
	_, _, err = s.store.Get(ctx, s.bucket, s.prefix+"gone")
	require.ErrorIs(t, err, context.Canceled)
}

func (s suite) closeEarly(t *testing.T) {
	body := Bytes(13, 8<<20)
	key := Key(s.prefix+"early/", body)
	require.NoError(t, s.store.Put(t.Context(), s.bucket, key, body))
	r, _, err := s.store.Get(t.Context(), s.bucket, key)
	require.NoError(t, err)
	_, err = io.ReadFull(r, make([]byte, 1000))
	require.NoError(t, err)
	require.NoError(t, r.Close())
}
