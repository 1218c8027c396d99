package s3

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// What x-amz-content-sha256 may say instead of a hash (AWS, "Authenticating
// Requests: Using the Authorization Header").
const (
	streamingSigned          = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	streamingSignedTrailer   = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
	streamingUnsignedTrailer = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
	unsignedPayload          = "UNSIGNED-PAYLOAD"
)

// noSignature has the length of a signature and is none.
var noSignature = strings.Repeat("0", 64)

// forgery is a form of request that no key has signed. SeaweedFS 3.39 decides by
// the form how a request is authenticated, and several of its handlers trust
// that another place did it.
type forgery struct {
	name string
	hash string // x-amz-content-sha256; "" sends none
	sign func(s *Store, r *http.Request)
}

// forgeries returns all forms: each content hash without credentials and with a
// wrong signature of the real access key, and the other ways to authenticate.
func forgeries() []forgery {
	var all []forgery
	for _, hash := range []string{"", streamingSigned, streamingSignedTrailer, streamingUnsignedTrailer, unsignedPayload} {
		name := "no signature"
		if hash != "" {
			name = "no signature, x-amz-content-sha256: " + hash
		}
		all = append(all,
			forgery{name, hash, func(*Store, *http.Request) {}},
			forgery{strings.Replace(name, "no", "wrong", 1), hash, func(s *Store, r *http.Request) { s.signWrongly(r, s.accessKey) }})
	}
	return append(all,
		forgery{"unknown access key", unsignedPayload, func(s *Store, r *http.Request) { s.signWrongly(r, "nobody") }},
		forgery{"wrong signature of version 2", "", func(s *Store, r *http.Request) {
			r.Header.Set("Authorization", "AWS "+s.accessKey+":"+noSignature[:28])
		}},
		forgery{"wrong presigned URL", "", presignWrongly},
		forgery{"wrong presigned URL, x-amz-content-sha256: " + streamingSigned, streamingSigned, presignWrongly},
		forgery{"wrong presigned URL of version 2", "", presignWronglyV2},
		forgery{"bearer token", "", func(_ *Store, r *http.Request) { r.Header.Set("Authorization", "Bearer none") }},
		forgery{"unknown kind of authorization", "", func(_ *Store, r *http.Request) { r.Header.Set("Authorization", "none") }},
		// What a browser's form upload looks like (POST Object).
		forgery{"content type multipart/form-data", "", func(_ *Store, r *http.Request) {
			r.Header.Set("Content-Type", "multipart/form-data; boundary="+formBoundary)
		}},
	)
}

// apply makes r the forged form of itself.
func (f forgery) apply(s *Store, r *http.Request, body []byte) {
	if r.Method == http.MethodPut && r.Header.Get("X-Amz-Copy-Source") == "" && strings.HasPrefix(f.hash, "STREAMING") {
		r.Header.Set("X-Amz-Decoded-Content-Length", fmt.Sprint(len(body)))
		r.Header.Set("Content-Encoding", "aws-chunked")
		body = chunked(f.hash, body)
	}
	if f.hash != "" {
		r.Header.Set("X-Amz-Content-Sha256", f.hash)
	}
	setBody(r, body)
	r.Header.Set("X-Amz-Date", time.Now().UTC().Format(amzTime))
	f.sign(s, r)
}

const amzTime = "20060102T150405Z"

// scope names the key and what a signature is valid for.
func (s *Store) scope(key string, now time.Time) string {
	return key + "/" + now.Format("20060102") + "/" + s.region + "/s3/aws4_request"
}

// signWrongly adds a header of version 4 that is right but for its signature.
func (s *Store) signWrongly(r *http.Request, key string) {
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+s.scope(key, time.Now().UTC())+
		", SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature="+noSignature)
}

func presignWrongly(s *Store, r *http.Request) {
	now := time.Now().UTC()
	q := r.URL.Query()
	q.Set("X-Amz-Algorithm", "AWS4-HMAC-SHA256")
	q.Set("X-Amz-Credential", s.scope(s.accessKey, now))
	q.Set("X-Amz-Date", now.Format(amzTime))
	q.Set("X-Amz-Expires", "600")
	q.Set("X-Amz-SignedHeaders", "host")
	q.Set("X-Amz-Signature", noSignature)
	r.URL.RawQuery = q.Encode()
}

func presignWronglyV2(s *Store, r *http.Request) {
	q := r.URL.Query()
	q.Set("AWSAccessKeyId", s.accessKey)
	q.Set("Expires", fmt.Sprint(time.Now().Add(10*time.Minute).Unix()))
	q.Set("Signature", noSignature[:28])
	r.URL.RawQuery = q.Encode()
}

// chunked frames body as aws-chunked, with chunk signatures that are none.
func chunked(hash string, body []byte) []byte {
	signature := ""
	if hash != streamingUnsignedTrailer {
		signature = ";chunk-signature=" + noSignature
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%x%s\r\n%s\r\n0%s\r\n", len(body), signature, body, signature)
	b.WriteString("\r\n")
	return b.Bytes()
}

// formBoundary separates the fields of a form upload.
var formBoundary = "relay" + hex.EncodeToString([]byte("probe"))

// form is the body of a form upload of one small object, without a policy.
func form(key string) []byte {
	return fmt.Appendf(nil, "--%[1]s\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\n%[2]s\r\n"+
		"--%[1]s\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\nContent-Type: text/plain\r\n\r\nunsigned\r\n--%[1]s--\r\n",
		formBoundary, key)
}
