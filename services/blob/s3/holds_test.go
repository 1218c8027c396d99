package s3_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/blob"
)

// holds: SeaweedFS 4.53 carries out nothing that nobody signed, and has what the
// later versions are said to have.
func (w weed) holds(t *testing.T) {
	require.NoError(t, blob.ProbeUnsigned(t.Context(), w.store, bucket))
	a, err := blob.Probe(t.Context(), w.store, bucket)
	require.NoError(t, err)
	t.Log(a)
	require.True(t, a.ReadBack && a.ETagMD5 && a.DeleteTruthful && a.ChecksumVerified && a.ContentMD5Verified && a.ConditionalPut, a)
	require.False(t, a.ObjectLock, "the bucket has none")
	w.nothingLeft(t)
	w.noProbeBuckets(t)
}

// lock: in a bucket with object lock a version under retention cannot be deleted.
func (w weed) lock(t *testing.T) {
	cl := awss3.New(awss3.Options{Region: w.Region, BaseEndpoint: &w.Endpoint, UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(w.AccessKey, w.SecretKey, "")})
	name := "locked"
	_, err := cl.CreateBucket(t.Context(), &awss3.CreateBucketInput{Bucket: &name, ObjectLockEnabledForBucket: aws.Bool(true)})
	require.NoError(t, err)
	a, err := blob.Probe(t.Context(), w.client(t, w.Endpoint), name)
	require.NoError(t, err)
	require.True(t, a.ObjectLock, a)
	require.Equal(t, "hard-worm", a.Mode())
}
