package s3_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/blob"
	"github.com/openova-io/bp-relay/services/blob/blobtest"
)

// faults is a table of faults of networks and stores, injected in front of the
// real store: each row states what Put or Get must do.
// faults: weak says that the store keeps bytes which do not have the signed hash.
func (w weed) faults(t *testing.T, weak bool) {
	p := newProxy(t, w.Endpoint)
	s := w.client(t, p.URL)
	n := uint64(0)
	fresh := func() ([]byte, string) {
		n++
		body := blobtest.Bytes(n, 50_000)
		return body, blobtest.Key("faults/", body)
	}
	type fault = func(http.ResponseWriter, *http.Request, func())
	lost := func(rw http.ResponseWriter, _ *http.Request, _ func()) { hangUp(rw) }
	lostAfter := func(rw http.ResponseWriter, r *http.Request, _ func()) { p.carriedOut(r); hangUp(rw) }
	status := func(code int, name string) fault {
		return func(rw http.ResponseWriter, r *http.Request, _ func()) {
			_, _ = io.Copy(io.Discard, r.Body)
			s3Error(rw, code, name)
		}
	}
	failedAfter := func(rw http.ResponseWriter, r *http.Request, _ func()) {
		p.carriedOut(r)
		s3Error(rw, http.StatusInternalServerError, "InternalError")
	}
	// The bytes are damaged on the way. A weak store keeps them, and its ETag shows or
	// hides that; another refuses them.
	damaged := func(honest bool) fault {
		return func(rw http.ResponseWriter, r *http.Request, _ func()) {
			body, _ := io.ReadAll(r.Body)
			md5 := r.Header.Get("Content-Md5")
			bad := bytes.Clone(body)
			bad[100] ^= 1
			r.Body = io.NopCloser(bytes.NewReader(bad))
			rec := p.carriedOut(r)
			etag := rec.Header().Get("Etag")
			if !honest {
				etag = etagOf(t, md5)
			}
			rw.Header().Set("Etag", etag)
			rw.WriteHeader(rec.Code)
		}
	}
	const all = 1 << 30

	for _, c := range []struct {
		name   string
		times  int32
		fault  fault
		err    error // nil: the put succeeds, and the bytes are there
		stored bool
	}{
		{"connection lost before", 1, lost, nil, true},
		{"connection lost after it was carried out", 1, lostAfter, nil, true},
		{"500 before", 2, status(500, "InternalError"), nil, true},
		{"500 after it was carried out", 1, failedAfter, nil, true},
		{"every answer lost, yet carried out", all, lostAfter, nil, true},
		{"every answer a 500, yet carried out", all, failedAfter, nil, true},
		{"bytes damaged on the way, refused", 1, status(400, "BadDigest"), nil, true},
		{"409 conflict of another writer", 1, status(409, "ConditionalRequestConflict"), nil, true},
		{"damaged on the way", 1, damaged(true), nil, true},
		{"never there", all, lost, blob.ErrUnavailable, false},
		{"always 503", all, status(503, "SlowDown"), blob.ErrUnavailable, false},
		{"denied", all, status(403, "AccessDenied"), blob.ErrDenied, false},
		{"no such bucket", all, status(404, "NoSuchBucket"), blob.ErrNotFound, false},
	} {
		t.Run("Put/"+c.name, func(t *testing.T) {
			body, key := fresh()
			p.on(t, first(c.times, http.MethodPut, c.fault))
			err := s.Put(t.Context(), bucket, key, body)
			if c.err == nil {
				require.NoError(t, err)
				require.Equal(t, body, blobtest.ReadAll(t, w.store, bucket, key))
				return
			}
			require.ErrorIs(t, err, c.err)
			_, err = w.store.Stat(t.Context(), bucket, key)
			require.Equal(t, c.stored, err == nil)
		})
	}

	t.Run("Put/always damaged", func(t *testing.T) {
		body, key := fresh()
		p.on(t, first(all, http.MethodPut, damaged(true)))
		err := s.Put(t.Context(), bucket, key, body)
		require.Error(t, err)
		require.Equal(t, weak, errors.Is(err, blob.ErrMismatch), "%v", err)
		_, err = w.store.Stat(t.Context(), bucket, key)
		require.Equal(t, weak, err == nil)
	})

	t.Run("Put/a liar is found only by reading back", func(t *testing.T) {
		if !weak {
			t.Skip("this store refuses the damaged bytes, so it cannot be made to lie by damaging them")
		}
		body, key := fresh()
		p.on(t, first(1, http.MethodPut, damaged(false)))
		require.NoError(t, s.Put(t.Context(), bucket, key, body))
		require.NotEqual(t, body, blobtest.ReadAll(t, s, bucket, key))
		require.ErrorIs(t, s.Put(t.Context(), bucket, key, body), blob.ErrExists)
		require.NoError(t, s.Replace(t.Context(), bucket, key, body), "Replace mends it")
		require.Equal(t, body, blobtest.ReadAll(t, s, bucket, key))
	})

	t.Run("Replace/lost answers", func(t *testing.T) {
		body, key := fresh()
		p.on(t, first(2, http.MethodPut, lostAfter))
		require.NoError(t, s.Replace(t.Context(), bucket, key, body))
		require.Equal(t, body, blobtest.ReadAll(t, w.store, bucket, key))
	})

	body, key := fresh()
	require.NoError(t, w.store.Put(t.Context(), bucket, key, body))
	for _, c := range []struct {
		name  string
		times int32
		fault fault
		err   error
	}{
		{"lost once", 1, lost, nil},
		{"500 twice", 2, status(500, "InternalError"), nil},
		{"always 500", all, status(500, "InternalError"), blob.ErrUnavailable},
		{"503 for now", 1, status(503, "SlowDown"), nil},
		{"503 with Retry-After: busy or cold", all, func(rw http.ResponseWriter, _ *http.Request, _ func()) {
			rw.Header().Set("Retry-After", "2")
			s3Error(rw, http.StatusServiceUnavailable, "ServiceUnavailable")
		}, blob.ErrLater},
		{"403 InvalidObjectState: archived", all, status(403, "InvalidObjectState"), blob.ErrRecalling},
		{"redirect elsewhere", all, func(rw http.ResponseWriter, r *http.Request, _ func()) {
			http.Redirect(rw, r, "http://127.0.0.1:1/", http.StatusTemporaryRedirect)
		}, errAny},
	} {
		t.Run("Get/"+c.name, func(t *testing.T) {
			p.on(t, first(c.times, http.MethodGet, c.fault))
			r, _, err := s.Get(t.Context(), bucket, key)
			if c.err == nil {
				require.NoError(t, err)
				defer r.Close()
				got, err := io.ReadAll(r)
				require.NoError(t, err)
				require.Equal(t, body, got)
				return
			}
			require.Error(t, err)
			if !errors.Is(c.err, errAny) {
				require.ErrorIs(t, err, c.err)
			}
		})
	}

	t.Run("Get/cold is not asked for again", func(t *testing.T) {
		p.on(t, func(rw http.ResponseWriter, _ *http.Request, _ func()) {
			rw.Header().Set("Retry-After", "2")
			s3Error(rw, http.StatusServiceUnavailable, "ServiceUnavailable")
		})
		_, _, err := s.Get(t.Context(), bucket, key)
		require.ErrorIs(t, err, blob.ErrRecalling)
		require.EqualValues(t, 1, p.count.Load())
	})

	// A body that breaks off or stalls must never look complete.
	for name, end := range map[string]func(http.ResponseWriter, *http.Request){
		"breaks off": func(rw http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) },
		"hangs":      func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	} {
		t.Run("Get/"+name, func(t *testing.T) {
			p.on(t, func(rw http.ResponseWriter, r *http.Request, _ func()) {
				rw.Header().Set("Content-Length", strconv.Itoa(len(body)))
				_, _ = rw.Write(body[:1000])
				_ = http.NewResponseController(rw).Flush()
				end(rw, r)
			})
			r, size, err := s.Get(t.Context(), bucket, key)
			require.NoError(t, err)
			require.EqualValues(t, len(body), size)
			start := time.Now()
			got, err := io.ReadAll(r)
			require.ErrorIs(t, err, blob.ErrUnavailable)
			require.Len(t, got, 1000)
			require.Less(t, time.Since(start), 8*time.Second)
			require.NoError(t, r.Close())
		})
	}

	t.Run("Delete/204 but nothing deleted", func(t *testing.T) {
		p.on(t, first(all, http.MethodDelete, func(rw http.ResponseWriter, _ *http.Request, _ func()) {
			rw.WriteHeader(http.StatusNoContent)
		}))
		require.ErrorIs(t, s.Delete(t.Context(), bucket, key), blob.ErrUnavailable)
		require.Equal(t, body, blobtest.ReadAll(t, w.store, bucket, key))
	})
	t.Run("Delete/answer lost", func(t *testing.T) {
		p.on(t, first(1, http.MethodDelete, lostAfter))
		require.NoError(t, s.Delete(t.Context(), bucket, key))
		_, err := w.store.Stat(t.Context(), bucket, key)
		require.ErrorIs(t, err, blob.ErrNotFound)
	})
}
