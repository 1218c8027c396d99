package local

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"
)

// SeaweedFSConfig says how SeaweedFS is run.
type SeaweedFSConfig struct {
	// Port of the S3 API; 0 picks a free one. The inner ports are always
	// picked.
	Port int
	// Buckets are made when it has started.
	Buckets []string
	// VolumeSizeMB bounds one volume file; 0 means 256. There are at most 200
	// volumes, and each bucket has volumes of its own.
	VolumeSizeMB int
}

// S3 is an S3 endpoint that works: a SeaweedFS of ours, or an existing store.
type S3 struct {
	// Endpoint is a URL: "http://127.0.0.1:8333". Buckets are addressed by path.
	Endpoint string
	// Region is what requests are signed for.
	Region               string
	AccessKey, SecretKey string
	// Process is nil for an existing store.
	*Process
}

// s3Keys is the file with the keys of our SeaweedFS.
type s3Keys struct{ AccessKey, SecretKey string }

func (e *Env) startSeaweedFS(ctx context.Context, c SeaweedFSConfig) (*S3, error) {
	weed, err := e.tool("weed", PartSeaweedFS)
	if err != nil {
		return nil, err
	}
	dir, err := e.folder(PartSeaweedFS)
	if err != nil {
		return nil, err
	}
	keys, err := keepJSON(filepath.Join(dir, "keys.json"), func() (s3Keys, error) {
		return s3Keys{AccessKey: secret(), SecretKey: secret() + secret()}, nil
	})
	if err != nil {
		return nil, err
	}
	identities := filepath.Join(dir, "s3.json")
	if err := writeJSON(identities, map[string]any{"identities": []any{map[string]any{
		"name":        "relay",
		"credentials": []any{map[string]string{"accessKey": keys.AccessKey, "secretKey": keys.SecretKey}},
		"actions":     []string{"Admin", "Read", "Write", "List", "Tagging"},
	}}}); err != nil {
		return nil, err
	}

	api, err := e.port(c.Port, "S3 API", "--s3-port", false)
	if err != nil {
		return nil, err
	}
	size := c.VolumeSizeMB
	if size == 0 {
		size = 256
	}
	argv := []string{weed, "-logtostderr", "server", "-s3", "-filer",
		"-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-dir=" + dir,
		"-s3.port=" + strconv.Itoa(api.Number), "-s3.config=" + identities,
		// Relative to the working directory: a socket's path holds 107 bytes.
		"-filer.localSocket=filer.sock",
		"-volume.max=200", "-master.volumeSizeLimitMB=" + strconv.Itoa(size),
		"-volume.minFreeSpace=256MiB",
		// A stop would wait 10 s for a cluster that is not there.
		"-volume.preStopSeconds=0",
	}
	ports := []Port{api}
	for _, flag := range []string{"master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc", "s3.port.grpc"} {
		p, err := e.port(0, flag, "", false)
		if err != nil {
			return nil, err
		}
		ports = append(ports, p)
		argv = append(argv, fmt.Sprintf("-%s=%d", flag, p.Number))
	}

	s := &S3{Endpoint: fmt.Sprintf("http://127.0.0.1:%d", api.Number), Region: "us-east-1", AccessKey: keys.AccessKey, SecretKey: keys.SecretKey}
	s.Process, err = launch(ctx, spec{
		part: PartSeaweedFS, argv: argv, dir: dir, log: e.logFile(PartSeaweedFS),
		env: []string{
			"HOME=" + dir, // where it looks for further config
			// One volume at a time per bucket, not seven.
			"WEED_MASTER_VOLUME_GROWTH_COPY_1=1",
		},
		ports: ports,
		// Its volume server waits for its own idle connections, up to 30 s.
		// What was acknowledged is written: a kill loses none of it.
		grace: 2 * time.Second,
		ready: func(ctx context.Context) error { return s.prepare(ctx, c.Buckets) },
	}, e.OnExit)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// prepare makes the buckets and writes, reads and deletes an object in the
// first: SeaweedFS answers S3 requests before it can store anything.
func (s *S3) prepare(ctx context.Context, buckets []string) error {
	cl := s.client()
	if err := listBuckets(ctx, cl); err != nil {
		return err
	}
	for _, b := range buckets {
		if err := makeBucket(ctx, cl, b); err != nil {
			return err
		}
	}
	if len(buckets) == 0 {
		return nil
	}
	return roundTrip(ctx, cl, buckets[0])
}

// CheckS3 asks an existing store whether it takes these keys. The error is an
// *AddressError whose text says what to do.
func CheckS3(ctx context.Context, endpoint, region, accessKey, secretKey string) (*S3, error) {
	if region == "" {
		region = "us-east-1"
	}
	s := &S3{Endpoint: endpoint, Region: region, AccessKey: accessKey, SecretKey: secretKey}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := listBuckets(ctx, s.client())
	if err == nil {
		return s, nil
	}
	return nil, &AddressError{Part: "S3", Address: endpoint, Problem: s3Problem(err, accessKey), Err: err}
}

var errEcho = errors.New("what was read is not what was written")
