package s3

import (
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/openova-io/bp-relay/services/blob"
)

// lockFor is how long the probe's object is retained. The mode is GOVERNANCE, so
// that credentials with the permission can remove it at once.
const lockFor = time.Minute

// objectLock finds out whether retention prevents a delete in this bucket.
// SeaweedFS 3.39 answers PUT ?retention with 204 and stores nothing, and GET
// ?object-lock with a listing: only an error of the right kind counts.
func (p *probe) objectLock(ctx context.Context) error {
	const what = "object lock"
	conf, err := p.client.GetObjectLockConfiguration(ctx, &awss3.GetObjectLockConfigurationInput{Bucket: &p.bucket})
	if err = typed(ctx, err); errors.Is(err, blob.ErrUnavailable) || ctx.Err() != nil {
		return err
	}
	if err != nil || conf.ObjectLockConfiguration == nil ||
		conf.ObjectLockConfiguration.ObjectLockEnabled != types.ObjectLockEnabledEnabled {
		p.note(false, what, "the bucket has no object lock")
		return nil
	}
	key := p.prefix + "lock"
	c, err := newContent([]byte("not to be deleted: "+p.prefix), true)
	if err != nil {
		return err
	}
	until := time.Now().Add(lockFor).UTC().Truncate(time.Second)
	in := c.input(p.bucket, key)
	in.ObjectLockMode, in.ObjectLockRetainUntilDate = types.ObjectLockModeGovernance, &until
	put, err := p.client.PutObject(ctx, in)
	if err = typed(ctx, err); err != nil {
		if unanswered(err) {
			return err
		}
		p.note(false, what, "a put with retention was refused")
		return nil
	}
	defer p.unlock(context.WithoutCancel(ctx), key, put.VersionId)

	ret, err := p.client.GetObjectRetention(ctx, &awss3.GetObjectRetentionInput{
		Bucket: &p.bucket, Key: &key, VersionId: put.VersionId,
	})
	if err != nil || ret.Retention == nil || !aws.ToTime(ret.Retention.RetainUntilDate).Equal(until) {
		p.note(false, what, "the retention that was set cannot be read back")
		return nil
	}
	_, err = p.client.DeleteObject(ctx, &awss3.DeleteObjectInput{Bucket: &p.bucket, Key: &key, VersionId: put.VersionId})
	refused := errors.Is(typed(ctx, err), blob.ErrDenied)
	_, err = p.client.HeadObject(ctx, &awss3.HeadObjectInput{Bucket: &p.bucket, Key: &key, VersionId: put.VersionId})
	there := err == nil
	switch {
	case put.VersionId == nil:
		p.note(false, what, "the bucket keeps no versions")
	case !refused:
		p.note(false, what, "deleting a version under retention was not refused")
	case !there:
		p.note(false, what, "deleting a version under retention was refused, but it is gone")
	default:
		p.a.ObjectLock = p.note(true, what, "a version under retention could not be deleted")
	}
	return nil
}

// unlock removes the locked object if the credentials permit it.
func (p *probe) unlock(ctx context.Context, key string, version *string) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	_, err := p.client.DeleteObject(ctx, &awss3.DeleteObjectInput{
		Bucket: &p.bucket, Key: &key, VersionId: version, BypassGovernanceRetention: aws.Bool(true),
	})
	if err != nil {
		p.log.DebugContext(ctx, "s3: could not remove the locked probe object", "key", key, "error", err)
	}
}
