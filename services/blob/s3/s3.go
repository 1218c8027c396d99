// Package s3 is the blob.Store on an S3 endpoint, by aws-sdk-go-v2. It works with
// SeaweedFS from 3.39, which verifies nothing, to 4.4x, which verifies much:
// Probe finds out the server's abilities, which are used from then on. Every
// object is uploaded in one PUT with a seekable body and its MD5 and SHA-256 in
// headers, never with the SDK's trailing checksums: SeaweedFS before 3.85 stores
// their framing inside the object (seaweedfs issues 6526, 6703, 6713, 6847). The
// SDK's own retries are off, because after a PUT whose answer was lost the key
// must be looked at before the PUT is sent again.
package s3

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/openova-io/bp-relay/services/blob"
)

var (
	_ blob.Store  = (*Store)(nil)
	_ blob.Prober = (*Store)(nil)
)

// Config is the endpoint and the credentials.
type Config struct {
	// Endpoint is the http or https URL of the S3 service, without a path:
	// buckets are addressed in the path.
	Endpoint string
	// AccessKey and SecretKey are the credentials. The environment and ~/.aws are
	// never used.
	AccessKey, SecretKey string
	// Region is the region that requests are signed for; "us-east-1" if empty.
	Region string
	// AttemptTimeout bounds one try of a request; for Get it bounds the wait for
	// the answer's header and then each read. 0 means 30 s.
	AttemptTimeout time.Duration
	// Attempts is the number of tries of a request in all; 0 means 3. The pauses
	// between them are short (together under 2 s).
	Attempts int
	// Logger gets a line per retry; it defaults to slog.Default().
	Logger *slog.Logger
}

// Store is one S3 endpoint. It is safe for concurrent use.
type Store struct {
	client    *awss3.Client
	transport *http.Transport
	endpoint  *url.URL // of requests that the SDK does not make: see unsigned.go
	accessKey string
	region    string
	timeout   time.Duration
	attempts  int
	log       *slog.Logger

	// What the last probe found. Before the first one, the store counts as one
	// that does no conditional puts and verifies SHA-256.
	conditional   atomic.Bool // conditional puts work
	ignoresSHA256 atomic.Bool // the server ignores SHA-256, so none is computed
}

// New makes the client. It sends nothing; Ping does.
func New(cfg Config) (*Store, error) {
	u, err := url.Parse(cfg.Endpoint)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, errors.New("s3: endpoint must be a URL like http://127.0.0.1:8333")
	}
	if cfg.AccessKey == "" || cfg.SecretKey == "" {
		return nil, errors.New("s3: access key and secret key are needed")
	}
	if cfg.Region == "" {
		cfg.Region = "us-east-1"
	}
	if cfg.AttemptTimeout <= 0 {
		cfg.AttemptTimeout = 30 * time.Second
	}
	if cfg.Attempts <= 0 {
		cfg.Attempts = 3
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:   5 * time.Second,
		ResponseHeaderTimeout: cfg.AttemptTimeout,
		MaxIdleConnsPerHost:   64,
		MaxConnsPerHost:       256,
		IdleConnTimeout:       60 * time.Second,
		DisableCompression:    true, // the hash is that of the stored bytes
		// Objects are megabytes: buffers of 4 KiB would mean a thousand writes each.
		WriteBufferSize: 64 << 10,
		ReadBufferSize:  64 << 10,
	}
	client := awss3.New(awss3.Options{
		BaseEndpoint: aws.String(cfg.Endpoint),
		Region:       cfg.Region,
		UsePathStyle: true,
		Credentials:  credentials.NewStaticCredentialsProvider(cfg.AccessKey, cfg.SecretKey, ""),
		Retryer:      aws.NopRetryer{},
		HTTPClient: &http.Client{
			Transport: transport,
			// A signed request must not go to another host.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		RequestChecksumCalculation:                aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation:                aws.ResponseChecksumValidationWhenRequired,
		DisableLogOutputChecksumValidationSkipped: true,
		ContinueHeaderThresholdBytes:              -1, // no Expect: 100-continue
	})
	return &Store{
		client: client, transport: transport,
		endpoint: u, accessKey: cfg.AccessKey, region: cfg.Region,
		timeout: cfg.AttemptTimeout, attempts: cfg.Attempts,
		log: cfg.Logger.With("component", "blob", "endpoint", u.Host),
	}, nil
}

// Close closes idle connections. It does not interrupt requests.
func (s *Store) Close() error {
	s.transport.CloseIdleConnections()
	return nil
}
