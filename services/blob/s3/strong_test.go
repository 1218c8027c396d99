package s3_test

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/openova-io/bp-relay/services/blob"
)

// strong makes SeaweedFS 3.39, the only version that runs here, behave as later
// versions do according to their code (evidence.md).
type strong struct {
	direct     blob.Store // past the proxy
	digests    bool       // compare digests (from 4.19)
	cond       bool       // honour If-None-Match (from 3.97)
	atomically bool       // ... of one at a time (from 4.18)
	lock       string     // "", "honest", "deaf" (accepts the delete), "lying" (refuses, and deletes)

	one   sync.Mutex
	mu    sync.Mutex
	until map[string]string // path to retention
}

func (s *strong) hook(w http.ResponseWriter, r *http.Request, pass func()) {
	q := r.URL.Query()
	switch {
	case s.lock != "" && q.Has("object-lock"):
		_, _ = fmt.Fprint(w, `<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>`)
	case s.lock != "" && q.Has("retention"):
		s.mu.Lock()
		defer s.mu.Unlock()
		_, _ = fmt.Fprintf(w, `<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>%s</RetainUntilDate></Retention>`, s.until[r.URL.Path])
	case r.Method == http.MethodDelete && q.Has("versionId") && s.lock != "deaf" &&
		r.Header.Get("X-Amz-Bypass-Governance-Retention") != "true":
		if s.lock == "lying" {
			bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
			_ = s.direct.Delete(r.Context(), bucket, key)
		}
		s3Error(w, http.StatusForbidden, "AccessDenied")
	case r.Method == http.MethodPut && q.Get("x-id") == "PutObject":
		s.put(w, r, pass)
	default:
		pass()
	}
}

func (s *strong) put(w http.ResponseWriter, r *http.Request, pass func()) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s3Error(w, http.StatusBadRequest, "IncompleteBody")
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	sum, md := sha256.Sum256(body), md5.Sum(body)
	differs := func(header string, want []byte) bool {
		h := r.Header.Get(header)
		return h != "" && h != base64.StdEncoding.EncodeToString(want)
	}
	if s.digests && (differs("X-Amz-Checksum-Sha256", sum[:]) || differs("Content-Md5", md[:])) {
		s3Error(w, http.StatusBadRequest, "BadDigest")
		return
	}
	if until := r.Header.Get("X-Amz-Object-Lock-Retain-Until-Date"); until != "" && s.lock != "" {
		s.mu.Lock()
		s.until[r.URL.Path] = until
		s.mu.Unlock()
		w.Header().Set("X-Amz-Version-Id", "v1")
	}
	if !s.cond || r.Header.Get("If-None-Match") != "*" {
		pass()
		return
	}
	if s.atomically {
		s.one.Lock()
		defer s.one.Unlock()
	}
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if _, err := s.direct.Stat(r.Context(), bucket, key); err == nil {
		s3Error(w, http.StatusPreconditionFailed, "PreconditionFailed")
		return
	}
	if !s.atomically {
		time.Sleep(50 * time.Millisecond) // the window between look and write
	}
	pass()
}
