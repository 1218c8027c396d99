package work

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/openova-io/bp-relay/services/blob"
	"github.com/openova-io/bp-relay/services/blob/s3"
)

// The environment variables of the store; the program's flags override them.
const (
	EnvStore     = "RELAY_LOADTEST_STORE"         // file://DIR or s3://BUCKET[/PREFIX]
	EnvEndpoint  = "RELAY_LOADTEST_S3_ENDPOINT"   // http://host:port or https://host
	EnvRegion    = "RELAY_LOADTEST_S3_REGION"     // us-east-1 by default
	EnvBucket    = "RELAY_LOADTEST_S3_BUCKET"     // if EnvStore is not set: s3://BUCKET
	EnvAccessKey = "RELAY_LOADTEST_S3_ACCESS_KEY" // not a flag: other users can read the flags of a process
	EnvSecretKey = "RELAY_LOADTEST_S3_SECRET_KEY"
)

// ErrConfig is returned if the store's address or credentials are incomplete.
var ErrConfig = errors.New("work: the workers' store")

// Config names the workers' store and sets their timeouts.
type Config struct {
	// Store is file://DIR (an absolute folder, or file:DIR for a relative one)
	// or s3://BUCKET[/PREFIX].
	Store string
	// Endpoint, Region, AccessKey and SecretKey are those of the S3 service.
	Endpoint, Region, AccessKey, SecretKey string

	// Patience is how long calls to an unavailable store are retried, 2 min by
	// default.
	Patience time.Duration
	// Timeout is how long Barrier waits for all workers, 5 min by default:
	// a cluster has to pull images first.
	Timeout time.Duration
	// Poll is the interval at which the store is read, 250 ms by default. It bounds
	// the precision at which the clocks can be compared.
	Poll time.Duration
	// Lead is the time from when all workers are present to the start, 5 s by default:
	// all must have read the start by then.
	Lead time.Duration
	// Skew is the largest offset of a worker's clock that is accepted, 1 s by
	// default.
	Skew time.Duration

	Now    func() time.Time // time.Now by default
	Logger *slog.Logger     // slog.Default() by default
}

// FromEnv reads the store's address and credentials from the environment.
func FromEnv(getenv func(string) string) Config {
	c := Config{
		Store: getenv(EnvStore), Endpoint: getenv(EnvEndpoint), Region: getenv(EnvRegion),
		AccessKey: getenv(EnvAccessKey), SecretKey: getenv(EnvSecretKey),
	}
	if b := getenv(EnvBucket); c.Store == "" && b != "" {
		c.Store = "s3://" + b
	}
	return c
}

// filled returns the configuration with its defaults.
func (c Config) filled() Config {
	c.Patience = cmp.Or(c.Patience, 2*time.Minute)
	c.Timeout = cmp.Or(c.Timeout, 5*time.Minute)
	c.Poll = cmp.Or(c.Poll, 250*time.Millisecond)
	c.Lead = cmp.Or(c.Lead, 5*time.Second)
	c.Skew = cmp.Or(c.Skew, time.Second)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

// Open opens the store that the configuration names and creates a missing folder or
// bucket. It probes an S3 store with about ten small requests for puts that never
// overwrite. A wrong address is ErrConfig.
func Open(ctx context.Context, cfg Config) (*Coordinator, error) {
	u, err := url.Parse(cfg.Store)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	switch u.Scheme {
	case "file":
		dir := cmp.Or(u.Opaque, u.Path)
		if u.Host != "" { // file://parts means a folder, not a host
			dir = filepath.Join(u.Host, u.Path)
		}
		if dir == "" {
			return nil, fmt.Errorf("%w: %q has no folder", ErrConfig, cfg.Store)
		}
		f, err := openFolder(dir)
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", cfg.Store, err)
		}
		return New(f, cfg), nil
	case "s3":
		return openBucket(ctx, cfg, u.Host, strings.Trim(u.Path, "/"))
	}
	return nil, fmt.Errorf("%w: %q is neither file://DIR nor s3://BUCKET[/PREFIX]: set %s, or %s", ErrConfig, cfg.Store, EnvStore, EnvBucket)
}

func openBucket(ctx context.Context, cfg Config, name, prefix string) (*Coordinator, error) {
	if name == "" {
		return nil, fmt.Errorf("%w: %q has no bucket", ErrConfig, cfg.Store)
	}
	client, err := s3.New(s3.Config{
		Endpoint: cfg.Endpoint, Region: cfg.Region, AccessKey: cfg.AccessKey, SecretKey: cfg.SecretKey, Logger: cfg.Logger,
	})
	if err != nil {
		return nil, fmt.Errorf("%w: set %s, %s and %s: %w", ErrConfig, EnvEndpoint, EnvAccessKey, EnvSecretKey, err)
	}
	if prefix != "" {
		prefix += "/"
	}
	s := New(&bucket{store: client, name: name, prefix: prefix}, cfg)
	err = s.patiently(ctx, "open", func() error {
		if err := client.EnsureBucket(ctx, name); err != nil {
			return err
		}
		_, err := blob.Probe(ctx, client, name)
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s at %s: %w", cfg.Store, cfg.Endpoint, err), s.Close())
	}
	return s, nil
}
