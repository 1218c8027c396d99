// Package s3 is the blob.Store over an S3 endpoint, by aws-sdk-go-v2. It is
// written for SeaweedFS from 3.39, which checks nothing it is sent, to 4.4x,
// which checks much: what the server can do is probed (Probe) and used from
// then on. Every object goes up in one PUT with a seekable body, its MD5 and
// its SHA-256 in headers, never by the SDK's trailing checksums: SeaweedFS
// before 3.85 stores their framing inside the object (seaweedfs issues 6526,
// 6703, 6713, 6847). The SDK's own retries are off, because a PUT whose answer
// was lost must be looked at before it is sent again.
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

// Config says which endpoint to use and as whom.
type Config struct {
	// Endpoint is the URL of the S3 service, http or https, without a path:
	// buckets are addressed in the path.
	Endpoint string
	// AccessKey and SecretKey are the credentials. Nothing is ever taken from
	// the environment or from ~/.aws.
	AccessKey, SecretKey string
	// Region is what requests are signed for; "us-east-1" when empty.
	Region string
	// AttemptTimeout bounds one try of one request, for Get until the answer's
	// header and then for each read; 30 s when 0.
	AttemptTimeout time.Duration
	// Attempts is how often a request is tried in all; 3 when 0. Pauses in
	// between are short (together under 2 s): longer outages are the caller's.
	Attempts int
	// Logger gets a line per repeated try; slog.Default() when nil.
	Logger *slog.Logger
}

// Store is one S3 endpoint. It is safe for concurrent use.
type Store struct {
	client    *awss3.Client
	transport *http.Transport
	timeout   time.Duration
	attempts  int
	log       *slog.Logger

	// What the last probe saw; before the first, the store is taken to be
	// weak and is told everything.
	conditional   atomic.Bool // conditional puts work
	ignoresSHA256 atomic.Bool // no SHA-256 is looked at, so none is computed
}

// New makes the client and sends nothing: Ping says whether it works.
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
		DisableCompression:    true, // the bytes are what is hashed
		// Objects are megabytes: 4 KiB at a time would be a thousand writes each.
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
			// A signed request is not for another host.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		RequestChecksumCalculation:                aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation:                aws.ResponseChecksumValidationWhenRequired,
		DisableLogOutputChecksumValidationSkipped: true,
		ContinueHeaderThresholdBytes:              -1, // no Expect: 100-continue
	})
	return &Store{
		client: client, transport: transport,
		timeout: cfg.AttemptTimeout, attempts: cfg.Attempts,
		log: cfg.Logger.With("component", "blob", "endpoint", u.Host),
	}, nil
}

// Close drops idle connections. Requests under way are not disturbed.
func (s *Store) Close() error {
	s.transport.CloseIdleConnections()
	return nil
}
