package s3_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/blob"
	"github.com/openova-io/bp-relay/services/blob/blobtest"
)

// signed reports whether the SDK made the request: a store that checks signatures
// accepts these and no others.
func signed(r *http.Request) bool { return r.Header.Get("Amz-Sdk-Invocation-Id") != "" }

// refusesUnsigned refuses what nobody signed.
func refusesUnsigned(rw http.ResponseWriter, r *http.Request, pass func()) {
	if !signed(r) {
		s3Error(rw, http.StatusForbidden, "AccessDenied")
		return
	}
	pass()
}

// unsignedWrites: SeaweedFS 3.39 carries out what nobody signed and is refused,
// even if it says no while it does so. A store that checks signatures is not.
func (w weed) unsignedWrites(t *testing.T) {
	err := blob.ProbeUnsigned(t.Context(), w.store, bucket)
	require.ErrorIs(t, err, blob.ErrUnsigned)
	t.Log(err)
	require.NotContains(t, err.Error(), "\n")
	require.NotContains(t, err.Error(), w.SecretKey)
	u, err := w.store.ProbeUnsigned(t.Context(), bucket)
	require.NoError(t, err)
	forms := map[string]string{}
	for _, d := range u {
		forms[d.Change] = strings.Join(d.Forms, "; ")
	}
	for _, change := range []string{"create a bucket", "copy", "tag"} {
		require.Contains(t, forms[change], "no signature, x-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD", change)
	}
	require.Contains(t, forms["delete several"], "multipart/form-data")
	w.nothingLeft(t)
	w.noProbeBuckets(t)

	p := newProxy(t, w.Endpoint)
	s := w.client(t, p.URL)
	p.on(t, refusesUnsigned)
	require.NoError(t, blob.ProbeUnsigned(t.Context(), s, bucket))
	p.on(t, func(rw http.ResponseWriter, r *http.Request, pass func()) {
		if !signed(r) {
			p.carriedOut(r)
			s3Error(rw, http.StatusForbidden, "AccessDenied")
			return
		}
		pass()
	})
	require.ErrorIs(t, blob.ProbeUnsigned(t.Context(), s, bucket), blob.ErrUnsigned, "the effect counts, not the answer")
	w.nothingLeft(t)
	w.noProbeBuckets(t)

	// A store that does not answer is neither good nor bad.
	p.on(t, func(rw http.ResponseWriter, r *http.Request, pass func()) {
		if !signed(r) {
			hangUp(rw)
			return
		}
		pass()
	})
	err = blob.ProbeUnsigned(t.Context(), s, bucket)
	require.ErrorIs(t, err, blob.ErrUnavailable)
	require.NotErrorIs(t, err, blob.ErrUnsigned)
	require.ErrorIs(t, blob.ProbeUnsigned(t.Context(), blobtest.NewFaulty(plain{w.store}), bucket), blob.ErrNotProbed)
}

func (w weed) noProbeBuckets(t *testing.T) {
	t.Helper()
	cl := awss3.New(awss3.Options{Region: w.Region, BaseEndpoint: &w.Endpoint, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(w.AccessKey, w.SecretKey, "")})
	out, err := cl.ListBuckets(t.Context(), &awss3.ListBucketsInput{})
	require.NoError(t, err)
	for _, b := range out.Buckets {
		require.NotContains(t, *b.Name, "relay-probe-")
	}
}
