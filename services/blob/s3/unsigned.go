package s3

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/openova-io/bp-relay/services/blob"
)

// intruder is one run of ProbeUnsigned: it tries to change the store without a
// signature, and looks with one what came of it.
type intruder struct {
	*Store
	http   *http.Client
	bucket string
	id     string // random, in every name that this run uses
	victim string // the key of an object of its own
	// accepted: the last forged request was answered by a success.
	accepted bool
}

// victimBody is what the victim holds until somebody changes it.
var victimBody = []byte("a probe of relay: only signed requests may change this object")

// deed is one kind of change. n tells the forms apart.
type deed struct {
	name string
	// request returns the change, not yet forged, and its body.
	request func(in *intruder, n int) (method, path, query string, header http.Header, body []byte)
	// done looks with a signed request whether the change was made, and undoes it.
	done func(in *intruder, ctx context.Context, n int) (bool, error)
}

// deeds are the changes that would let a stranger alter evidence.
func deeds() []deed {
	return []deed{
		{"create a bucket", (*intruder).createBucket, (*intruder).bucketThere},
		{"put", (*intruder).putObject, objectThere("put")},
		{"copy", (*intruder).copyObject, objectThere("copy")},
		{"form upload", (*intruder).formUpload, objectThere("form")},
		{"tag", (*intruder).tagVictim, (*intruder).victimTagged},
		{"delete", (*intruder).deleteVictim, (*intruder).victimGone},
		{"delete several", (*intruder).deleteSeveral, (*intruder).victimGone},
	}
}

// ProbeUnsigned implements blob.Prober. Only what a signed request sees
// afterwards counts, whatever the store answered.
func (s *Store) ProbeUnsigned(ctx context.Context, bucket string) (blob.Unsigned, error) {
	id := make([]byte, 8)
	_, _ = rand.Read(id) // never fails (crypto/rand)
	in := &intruder{Store: s, bucket: bucket, id: hex.EncodeToString(id), http: &http.Client{
		Transport: s.transport, Timeout: s.timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	in.victim = in.key("victim", 0)
	if err := s.Replace(ctx, bucket, in.victim, victimBody); err != nil {
		return nil, fmt.Errorf("probe %s: %w", bucket, err)
	}
	defer in.clean(context.WithoutCancel(ctx))
	var all blob.Unsigned
	for _, d := range deeds() {
		forms, err := in.tryAll(ctx, d)
		if err != nil {
			return nil, fmt.Errorf("probe %s: unsigned %s: %w", bucket, d.name, err)
		}
		if len(forms) > 0 {
			all = append(all, blob.Deception{Change: d.name, Forms: forms})
		}
	}
	return all, nil
}

// tryAll tries a deed in every form and returns the names of those that passed.
func (in *intruder) tryAll(ctx context.Context, d deed) ([]string, error) {
	var passed []string
	for n, f := range forgeries() {
		if err := in.send(ctx, d, f, n); err != nil {
			return nil, err
		}
		did, err := d.done(in, ctx, n)
		if err != nil {
			return nil, err
		}
		if did {
			passed = append(passed, f.name)
		}
	}
	return passed, nil
}

// send sends one forged request. Any answer will do.
func (in *intruder) send(ctx context.Context, d deed, f forgery, n int) error {
	method, path, query, header, body := d.request(in, n)
	u := *in.endpoint
	u.Path, u.RawQuery = strings.TrimSuffix(u.Path, "/")+path, query
	return in.try(ctx, "probe", func(ctx context.Context) error {
		r, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
		if err != nil {
			return err
		}
		r.Header = header.Clone()
		if r.Header == nil {
			r.Header = http.Header{}
		}
		f.apply(in.Store, r, body)
		res, err := in.http.Do(r)
		if err != nil {
			return fmt.Errorf("%w: %w", blob.ErrUnavailable, err)
		}
		in.accepted = res.StatusCode < http.StatusMultipleChoices
		_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<20)) // so that the connection is used again
		return res.Body.Close()
	})
}

func setBody(r *http.Request, body []byte) {
	r.Body, r.ContentLength = http.NoBody, int64(len(body))
	if len(body) > 0 {
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
}

// key names an object of this run.
func (in *intruder) key(what string, n int) string {
	return fmt.Sprintf(".probe/%s/%s-%d", in.id, what, n)
}

func (in *intruder) path(key string) string { return "/" + in.bucket + "/" + key }

// newBucket names a bucket of this run: it does not exist.
func (in *intruder) newBucket(n int) string { return fmt.Sprintf("relay-probe-%s-%d", in.id, n) }

func (in *intruder) createBucket(n int) (method, path, query string, header http.Header, body []byte) {
	return http.MethodPut, "/" + in.newBucket(n), "", nil, nil
}

func (in *intruder) bucketThere(ctx context.Context, n int) (bool, error) {
	name := in.newBucket(n)
	err := in.try(ctx, "probe", func(ctx context.Context) error {
		_, err := in.client.HeadBucket(ctx, &awss3.HeadBucketInput{Bucket: &name})
		return err
	})
	switch {
	case errors.Is(err, blob.ErrNotFound):
		return false, nil
	case errors.Is(err, blob.ErrDenied): // it may be there and belong to somebody else
		return in.accepted, nil
	case err != nil:
		return false, err
	}
	err = in.try(ctx, "probe", func(ctx context.Context) error {
		_, err := in.client.DeleteBucket(ctx, &awss3.DeleteBucketInput{Bucket: &name})
		return err
	})
	if err != nil {
		in.log.WarnContext(ctx, "s3: could not remove the bucket of a probe", "bucket", name, "error", err)
	}
	return true, nil
}

func (in *intruder) putObject(n int) (method, path, query string, header http.Header, body []byte) {
	return http.MethodPut, in.path(in.key("put", n)), "", nil, []byte("unsigned")
}

func (in *intruder) copyObject(n int) (method, path, query string, header http.Header, body []byte) {
	from := http.Header{"X-Amz-Copy-Source": {in.path(in.victim)}}
	return http.MethodPut, in.path(in.key("copy", n)), "", from, nil
}

func (in *intruder) formUpload(n int) (method, path, query string, header http.Header, body []byte) {
	kind := http.Header{"Content-Type": {"multipart/form-data; boundary=" + formBoundary}}
	return http.MethodPost, "/" + in.bucket, "", kind, form(in.key("form", n))
}

// objectThere looks for the object that a deed would have made, and removes it.
func objectThere(what string) func(in *intruder, ctx context.Context, n int) (bool, error) {
	return func(in *intruder, ctx context.Context, n int) (bool, error) {
		key := in.key(what, n)
		_, err := in.Stat(ctx, in.bucket, key)
		if errors.Is(err, blob.ErrNotFound) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		return true, in.Delete(ctx, in.bucket, key)
	}
}

// tagVictim replaces the victim's tags by one with the value n.
func (in *intruder) tagVictim(n int) (method, path, query string, header http.Header, body []byte) {
	return http.MethodPut, in.path(in.victim), "tagging=", nil,
		fmt.Appendf(nil, `<Tagging><TagSet><Tag><Key>unsigned</Key><Value>%d</Value></Tag></TagSet></Tagging>`, n)
}

func (in *intruder) victimTagged(ctx context.Context, n int) (bool, error) {
	tagged := false
	err := in.try(ctx, "probe", func(ctx context.Context) error {
		out, err := in.client.GetObjectTagging(ctx, &awss3.GetObjectTaggingInput{Bucket: &in.bucket, Key: &in.victim})
		if err != nil {
			return err
		}
		tagged = slices.ContainsFunc(out.TagSet, func(t types.Tag) bool { return aws.ToString(t.Value) == strconv.Itoa(n) })
		return nil
	})
	if err != nil && !unanswered(err) {
		return false, nil // a store without tags
	}
	return tagged, err
}

func (in *intruder) deleteVictim(int) (method, path, query string, header http.Header, body []byte) {
	return http.MethodDelete, in.path(in.victim), "", nil, nil
}

func (in *intruder) deleteSeveral(int) (method, path, query string, header http.Header, body []byte) {
	return http.MethodPost, "/" + in.bucket, "delete=", nil,
		[]byte(`<Delete><Object><Key>` + in.victim + `</Key></Object></Delete>`)
}

func (in *intruder) victimGone(ctx context.Context, _ int) (bool, error) {
	_, err := in.Stat(ctx, in.bucket, in.victim)
	if errors.Is(err, blob.ErrNotFound) {
		return true, in.Replace(ctx, in.bucket, in.victim, victimBody)
	}
	return false, err
}

// clean removes the victim. What was carried out is undone already.
func (in *intruder) clean(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, in.timeout)
	defer cancel()
	if err := in.Delete(ctx, in.bucket, in.victim); err != nil {
		in.log.WarnContext(ctx, "s3: could not remove a probe object", "key", in.victim, "error", err)
	}
}
