package run

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"

	"github.com/livekit/protocol/auth"
	"github.com/livekit/protocol/livekit"
	lksdk "github.com/livekit/server-sdk-go/v2"

	"github.com/openova-io/bp-relay/loadtest/peer"
	"github.com/openova-io/bp-relay/loadtest/scenario"
)

// Place is an installation under test: it knows rooms and lets participants in.
type Place interface {
	// About says in a few words what it is.
	About() string
	// MakeRoom makes a room and returns its full name.
	MakeRoom(ctx context.Context, id string) (string, error)
	// RemoveRoom ends a room that MakeRoom made.
	RemoveRoom(ctx context.Context, room string) error
	// Enter gives what a participant needs to join.
	Enter(ctx context.Context, room, identity, path string, publish bool) (Entry, error)
	// Processes are what runs on this machine of it, by name.
	Processes() map[string]int
	// Metrics are URLs of the SFU's and the TURN server's Prometheus
	// endpoints, "" where there is none.
	Metrics() (sfu, turn string)
	// Close stops what was started for the run.
	Close() error
}

// Entry is what a participant joins with.
type Entry struct {
	URL, Token string
	TURN       peer.TURN
	TLS        *tls.Config
}

// ErrNoPath: when the installation has no TURN server for a path.
var ErrNoPath = errors.New("the installation names no TURN server for this path")

// tokenTTL is how long tokens and TURN credentials hold: longer than a soak.
const tokenTTL = 24 * time.Hour

// Raw is a LiveKit that is joined with API keys.
type Raw struct {
	// SignalURL is for clients, URL for the API.
	SignalURL, URL, Key, Secret string
	// Servers give a participant's TURN server by path.
	Servers map[string]func(identity string) (peer.TURN, *tls.Config)
	// What says what it is.
	What string
	// IDs are processes here, by name.
	IDs             map[string]int
	SFUURL, TURNURL string
	Stop            func() error
	rooms           *lksdk.RoomServiceClient
}

func (r *Raw) api() *lksdk.RoomServiceClient {
	if r.rooms == nil {
		r.rooms = lksdk.NewRoomServiceClient(r.URL, r.Key, r.Secret)
	}
	return r.rooms
}

// About implements Place.
func (r *Raw) About() string { return r.What }

// MakeRoom implements Place.
func (r *Raw) MakeRoom(ctx context.Context, id string) (string, error) {
	if _, err := r.api().CreateRoom(ctx, &livekit.CreateRoomRequest{Name: id, EmptyTimeout: 300}); err != nil {
		return "", fmt.Errorf("create room: %w: check LiveKit's address, its API key and secret", err)
	}
	return id, nil
}

// RemoveRoom implements Place.
func (r *Raw) RemoveRoom(ctx context.Context, room string) error {
	_, err := r.api().DeleteRoom(ctx, &livekit.DeleteRoomRequest{Room: room})
	return err
}

// Enter implements Place.
func (r *Raw) Enter(_ context.Context, room, identity, path string, publish bool) (Entry, error) {
	subscribe := !publish
	grant := &auth.VideoGrant{RoomJoin: true, Room: room, CanPublish: &publish, CanSubscribe: &subscribe, CanPublishData: &publish}
	token, err := auth.NewAccessToken(r.Key, r.Secret).SetIdentity(identity).SetValidFor(tokenTTL).SetVideoGrant(grant).ToJWT()
	if err != nil {
		return Entry{}, fmt.Errorf("sign a token: %w", err)
	}
	e := Entry{URL: r.SignalURL, Token: token}
	if path == peer.Direct {
		return e, nil
	}
	server := r.Servers[path]
	if server == nil {
		return Entry{}, fmt.Errorf("%w: %s: name one under target.livekit.turn", ErrNoPath, path)
	}
	e.TURN, e.TLS = server(identity)
	return e, nil
}

// Processes implements Place.
func (r *Raw) Processes() map[string]int { return r.IDs }

// Metrics implements Place.
func (r *Raw) Metrics() (sfu, turn string) { return r.SFUURL, r.TURNURL }

// Close implements Place.
func (r *Raw) Close() error {
	if r.Stop == nil {
		return nil
	}
	return r.Stop()
}

// rawFrom is a LiveKit as the scenario names it.
func rawFrom(t *scenario.LiveKit, getenv func(string) string) (*Raw, error) {
	r := &Raw{SignalURL: t.URL, What: "LiveKit at " + t.URL, Servers: map[string]func(string) (peer.TURN, *tls.Config){}}
	u, err := url.Parse(t.URL)
	if err != nil {
		return nil, fmt.Errorf("target.livekit.url: %w", err)
	}
	switch u.Scheme {
	case "ws", "wss":
		u.Scheme = "http" + u.Scheme[2:]
	}
	r.URL = u.String()
	if r.Key, r.Secret = getenv(t.KeyEnv), getenv(t.SecretEnv); r.Key == "" || r.Secret == "" {
		return nil, fmt.Errorf("the variables %s and %s hold LiveKit's API key and secret: set both", t.KeyEnv, t.SecretEnv)
	}
	for _, server := range t.TURN {
		path := peer.Serves(server.URL)
		if path == "" {
			return nil, fmt.Errorf("target.livekit.turn: %q: want turn:host:port?transport=udp, ...=tcp, or turns:host:port", server.URL)
		}
		make, err := turnMaker(server, getenv)
		if err != nil {
			return nil, err
		}
		r.Servers[path] = make
	}
	return r, nil
}

func turnMaker(s scenario.TURN, getenv func(string) string) (func(string) (peer.TURN, *tls.Config), error) {
	conf, err := turnTLS(s)
	if err != nil {
		return nil, err
	}
	if s.SecretEnv != "" {
		secret := getenv(s.SecretEnv)
		if secret == "" {
			return nil, fmt.Errorf("the variable %s holds the secret of the TURN server %s: set it", s.SecretEnv, s.URL)
		}
		return func(identity string) (peer.TURN, *tls.Config) {
			t := peer.TURN{URL: s.URL}
			t.Username, t.Credential = ephemeral(secret, identity)
			return t, conf
		}, nil
	}
	credential := getenv(s.CredentialEnv)
	if credential == "" {
		return nil, fmt.Errorf("the variable %s holds the credential of the TURN server %s: set it", s.CredentialEnv, s.URL)
	}
	return func(string) (peer.TURN, *tls.Config) {
		return peer.TURN{URL: s.URL, Username: s.Username, Credential: credential}, conf
	}, nil
}

func turnTLS(s scenario.TURN) (*tls.Config, error) {
	if peer.Serves(s.URL) != peer.TURNTLS || (s.CAFile == "" && !s.Insecure) {
		return nil, nil //nolint:nilnil // nil is the system's way
	}
	conf := &tls.Config{InsecureSkipVerify: s.Insecure} //nolint:gosec // only where the scenario says so
	if host, err := peer.Host(s.URL); err == nil {
		conf.ServerName = host
	}
	if s.CAFile != "" {
		pem, err := os.ReadFile(s.CAFile)
		if err != nil {
			return nil, fmt.Errorf("target.livekit.turn.ca_file: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("target.livekit.turn.ca_file: %s holds no certificate in PEM", s.CAFile)
		}
	}
	return conf, nil
}
