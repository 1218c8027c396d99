// Package livekit is the adapter to LiveKit: its Twirp API, access tokens,
// webhooks and, in package signal, its signalling. Services call a Client and
// see the types of this package. Only recording/tracks (the Go SDK), rtc, dev
// and loadtest also use LiveKit's own packages; docs/livekit.md says for what.
//
// A Client keeps no state about rooms: LiveKit is asked each time.
package livekit

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	lkauth "github.com/livekit/protocol/auth"
	lk "github.com/livekit/protocol/livekit"
	"github.com/twitchtv/twirp"
)

// Errors that callers decide by.
var (
	// ErrNotFound: LiveKit has no such room or participant.
	ErrNotFound = errors.New("livekit: not found")
	// ErrUnavailable: LiveKit did not answer or failed. Whether it did what was
	// asked is not known; all calls here are safe to repeat.
	ErrUnavailable = errors.New("livekit: unavailable")
	// ErrRefused: LiveKit does not accept the API key. Repeating does not help.
	ErrRefused = errors.New("LiveKit refuses our API key; check livekit.key and livekit.secret")
	// ErrSignature: a webhook is not signed with our API key, its body was
	// altered, or it is not an event.
	ErrSignature = errors.New("livekit: webhook signature")
)

const (
	// callTimeout bounds one call to LiveKit's API.
	callTimeout = 5 * time.Second
	// livesTimeout bounds Lives: a node that runs the room answers within
	// milliseconds, and nobody answers for a room that no node runs.
	livesTimeout = 2 * time.Second
	// adminTTL is how long the token of one call is valid.
	adminTTL = time.Minute
	// minSecret is the least length of an API secret: HS256 needs a key of 256
	// bits (RFC 7518 §3.2).
	minSecret = 32
)

// Config says where LiveKit is and how to talk to it.
type Config struct {
	// URL is the address for our own calls, http:// or ws://:
	// "http://127.0.0.1:7880".
	URL string
	// PublicURL is the WebSocket address that participants get; "" means URL.
	PublicURL string
	// Key and Secret are an API key; the secret has at least 32 characters.
	Key, Secret string
}

// Client calls one LiveKit installation, mints its tokens and reads its
// webhooks. It is safe for concurrent use.
type Client struct {
	cfg        Config
	rooms      lk.RoomService
	dispatches lk.AgentDispatchService
	signer     jose.Signer
	keys       lkauth.KeyProvider
}

// New checks the configuration. It does not call LiveKit.
func New(cfg Config) (*Client, error) {
	if cfg.URL == "" || cfg.Key == "" {
		return nil, errors.New("livekit: URL and Key must be set (livekit.url, livekit.key)")
	}
	if len(cfg.Secret) < minSecret {
		return nil, fmt.Errorf("livekit: the API secret has fewer than %d characters (livekit.secret)", minSecret)
	}
	if cfg.PublicURL == "" {
		cfg.PublicURL = cfg.URL
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: []byte(cfg.Secret)}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return nil, fmt.Errorf("make LiveKit token signer: %w", err)
	}
	api := cfg.URL
	if rest, ok := strings.CutPrefix(api, "ws"); ok { // ws:// and wss://
		api = "http" + rest
	}
	return &Client{
		cfg: cfg, signer: signer, keys: lkauth.NewSimpleKeyProvider(cfg.Key, cfg.Secret),
		rooms:      lk.NewRoomServiceProtobufClient(api, &http.Client{Timeout: callTimeout}),
		dispatches: lk.NewAgentDispatchServiceProtobufClient(api, &http.Client{Timeout: callTimeout}),
	}, nil
}

// URL is the address for our own calls.
func (c *Client) URL() string { return c.cfg.URL }

// PublicURL is the WebSocket address that participants get.
func (c *Client) PublicURL() string { return c.cfg.PublicURL }

// authorised adds a token with the least grants for one call.
func (c *Client) authorised(ctx context.Context, grant *lkauth.VideoGrant) (context.Context, error) {
	token, err := c.sign("", "", time.Now(), adminTTL, &lkauth.ClaimGrants{Video: grant})
	if err != nil {
		return nil, err
	}
	return twirp.WithHTTPRequestHeaders(ctx, http.Header{"Authorization": {"Bearer " + token}})
}

// callError gives a failed Twirp call one of this package's errors.
func callError(doing string, err error) error {
	if err == nil {
		return nil
	}
	kind := ErrUnavailable
	if te, ok := errors.AsType[twirp.Error](err); ok {
		switch te.Code() {
		case twirp.NotFound:
			kind = ErrNotFound
		case twirp.Unauthenticated, twirp.PermissionDenied:
			kind = ErrRefused
		}
	}
	return fmt.Errorf("%s: %w: %w", doing, kind, err)
}
