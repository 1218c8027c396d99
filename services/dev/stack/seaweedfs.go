package stack

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"github.com/openova-io/bp-relay/services/dev/part"
	"github.com/openova-io/bp-relay/services/dev/process"
)

// SeaweedFSConfig says how SeaweedFS is run.
type SeaweedFSConfig struct {
	// Port is for the S3 API; 0 picks a free one. SeaweedFS's other ports are
	// always picked.
	Port int
	// Buckets are created once it has started.
	Buckets []string
	// Weak runs SeaweedFS 3.39, which carries out unsigned requests, for tests of
	// what must be refused.
	Weak bool
	// VolumeSizeMB bounds one volume file, in MB; 0 means 256. There are at
	// most 200 volumes, and buckets do not share them.
	VolumeSizeMB int
}

// S3 is an S3 endpoint that works: a SeaweedFS started here, or an existing
// store.
type S3 struct {
	// Endpoint is a URL: "http://127.0.0.1:8333". Buckets are addressed by path.
	Endpoint string
	// Region is what requests are signed for.
	Region               string
	AccessKey, SecretKey string
	// Process is nil for an existing store.
	*process.Process
}

// s3Keys are the keys of the SeaweedFS that is started here.
type s3Keys struct{ AccessKey, SecretKey string }

// StartSeaweedFS runs `weed server` with its S3 API and waits until a bucket
// can be written and read. Data and keys stay in the folder.
func (e *Env) StartSeaweedFS(ctx context.Context, c SeaweedFSConfig) (*S3, error) {
	return withFreePorts([]int{c.Port}, func() (*S3, error) { return e.startSeaweedFS(ctx, c) })
}

func (e *Env) startSeaweedFS(ctx context.Context, c SeaweedFSConfig) (*S3, error) {
	name, program := part.SeaweedFS, "weed"
	if c.Weak {
		name, program = part.WeakSeaweedFS, "weed-3.39"
	}
	weed, err := e.tool(program, name)
	if err != nil {
		return nil, err
	}
	dir, err := e.folder(name)
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

	if err := lockSeaweedFS(dir); err != nil {
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
		// Relative to the working directory: a socket's path has at most 107 bytes.
		"-filer.localSocket=filer.sock",
		"-volume.max=200", "-master.volumeSizeLimitMB=" + strconv.Itoa(size),
		"-volume.minFreeSpace=256MiB",
		// By default a stop waits 10 s for other servers of its cluster.
		"-volume.preStopSeconds=0",
	}
	if !c.Weak {
		argv = append(argv,
			"-disableHttp", // of master and filer: S3 speaks gRPC with them
			"-s3.localSocket=s3.sock", "-s3.port.iceberg=0", "-s3.port.lance=0",
			"-master.telemetry=false", // it would report to its maker
		)
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
	s.Process, err = e.launch(ctx, name, process.Spec{
		Args: argv, Dir: dir,
		Env: []string{
			"HOME=" + dir, // where it looks for more config
			// Grow a bucket by one volume at a time, not by seven.
			"WEED_MASTER_VOLUME_GROWTH_COPY_1=1",
		},
		// On a stop its volume server waits up to 30 s for its own idle
		// connections. What it acknowledged is written: a kill loses nothing.
		Grace: 2 * time.Second,
		Ready: func(ctx context.Context) error { return s.prepare(ctx, c.Buckets) },
	}, ports...)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// prepare creates the buckets and writes, reads and deletes an object in the
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

// CheckS3 checks that an existing store accepts these keys, within 10 s. region
// "" means us-east-1. The error is an *[AddressError] that says what to do.
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

var errEcho = errors.New("the object read differs from the one written")
