package run

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"slices"

	"github.com/google/uuid"
	"github.com/livekit/protocol/auth"
	"github.com/livekit/protocol/livekit"
	lksdk "github.com/livekit/server-sdk-go/v2"

	"github.com/openova-io/bp-relay/loadtest/internal/scenario"
	"github.com/openova-io/bp-relay/services/livekit/signal"
	"github.com/openova-io/bp-relay/services/rtc"
)

// LiveKit is a system under test whose rooms are joined with LiveKit's API key.
type LiveKit struct {
	// SignalURL is the signalling URL for participants, URL that of the API.
	SignalURL, URL, Key, Secret string
	// Servers return a participant's TURN server, by path.
	Servers map[string]func(identity string) (rtc.TURN, *tls.Config)
	// What is a short description.
	What string
	// IDs are its process ids on this host by name.
	IDs             map[string]int
	SFUURL, TURNURL string
	// Media is LiveKit's UDP address if it was started for the run.
	Media netip.AddrPort
	Stop  func() error
}

// AddTURN sets the TURN server of a path; its credentials are derived from a
// shared secret.
func (r *LiveKit) AddTURN(path, url, secret string) {
	if r.Servers == nil {
		r.Servers = map[string]func(string) (rtc.TURN, *tls.Config){}
	}
	r.Servers[path] = func(identity string) (rtc.TURN, *tls.Config) {
		t := rtc.TURN{URL: url}
		t.Username, t.Credential = ephemeral(secret, identity)
		return t, nil
	}
}

func (r *LiveKit) api() *lksdk.RoomServiceClient {
	return lksdk.NewRoomServiceClient(r.URL, r.Key, r.Secret)
}

// About implements SUT.
func (r *LiveKit) About() string { return r.What }

// MakeRoom implements SUT.
func (r *LiveKit) MakeRoom(ctx context.Context, id string) (string, error) {
	if _, err := r.api().CreateRoom(ctx, &livekit.CreateRoomRequest{Name: id, EmptyTimeout: 300}); err != nil {
		return "", fmt.Errorf("create room: %w: check LiveKit's address, its API key and secret", err)
	}
	return id, nil
}

// RemoveRoom implements SUT.
func (r *LiveKit) RemoveRoom(ctx context.Context, room string) error {
	_, err := r.api().DeleteRoom(ctx, &livekit.DeleteRoomRequest{Room: room})
	return err
}

// JoinRoom implements SUT.
func (r *LiveKit) JoinRoom(_ context.Context, room, identity, path string, publish bool) (JoinAnswer, error) {
	subscribe := !publish
	grant := &auth.VideoGrant{RoomJoin: true, Room: room, CanPublish: &publish, CanSubscribe: &subscribe, CanPublishData: &publish}
	token, err := auth.NewAccessToken(r.Key, r.Secret).SetIdentity(identity).SetValidFor(tokenTTL).SetVideoGrant(grant).ToJWT()
	if err != nil {
		return JoinAnswer{}, fmt.Errorf("sign a token: %w", err)
	}
	e := JoinAnswer{URL: r.SignalURL, Token: token}
	if path == rtc.Direct {
		return e, nil
	}
	server := r.Servers[path]
	if server == nil {
		return JoinAnswer{}, fmt.Errorf("%w: %s: name one under target.livekit.turn, or leave the path out with --path", ErrNoPath, path)
	}
	e.TURN, e.TLS = server(identity)
	return e, nil
}

// check verifies that LiveKit answers and accepts the keys before media is made
// and the load starts, and asks it for the TURN servers of paths for which the
// scenario names none.
func (r *LiveKit) check(ctx context.Context, paths []string, existing string) (err error) {
	ask := slices.ContainsFunc(paths, func(p string) bool { return p != rtc.Direct && r.Servers[p] == nil })
	room := existing
	if room != "" {
		found, err := r.api().ListRooms(ctx, &livekit.ListRoomsRequest{Names: []string{room}})
		if err != nil {
			return fmt.Errorf("look for room %s: %w: check LiveKit's address, its API key and secret", room, err)
		}
		if len(found.GetRooms()) == 0 {
			return fmt.Errorf("%w: rooms.existing: LiveKit has no room %q", ErrTarget, room)
		}
	} else {
		if room, err = r.MakeRoom(ctx, "loadtest-check-"+uuid.NewString()[:8]); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, r.RemoveRoom(context.WithoutCancel(ctx), room)) }()
	}
	if ask {
		if err := r.named(ctx, room); err != nil {
			return err
		}
	}
	for _, path := range paths {
		if path != rtc.Direct && r.Servers[path] == nil {
			return fmt.Errorf("%w: %s: LiveKit names none itself; give one under target.livekit.turn, or leave the path out with --path", ErrNoPath, path)
		}
	}
	return nil
}

// named reads the TURN servers that LiveKit sends to participants. All
// participants use the credentials of the one that asked: LiveKit derives them
// from its API key and a name (TURNAuthHandler in pkg/service/turn.go), so they
// also work for others, as do those of servers in its configuration.
func (r *LiveKit) named(ctx context.Context, room string) error {
	e, err := r.JoinRoom(ctx, room, "loadtest-check", rtc.Direct, false)
	if err != nil {
		return err
	}
	conn, join, err := signal.Dial(ctx, e.URL, e.Token, false)
	if err != nil {
		return fmt.Errorf("ask LiveKit for its TURN servers: %w", err)
	}
	for _, s := range join.GetIceServers() {
		for _, u := range s.GetUrls() {
			path := rtc.TURNPath(u)
			if path == "" || r.Servers[path] != nil {
				continue
			}
			t := rtc.TURN{URL: u, Username: s.GetUsername(), Credential: s.GetCredential()}
			r.Servers[path] = func(string) (rtc.TURN, *tls.Config) { return t, nil }
		}
	}
	_ = conn.Close() // it has answered; the room is removed
	return nil
}

// Processes implements SUT.
func (r *LiveKit) Processes() map[string]int { return r.IDs }

// Metrics implements SUT.
func (r *LiveKit) Metrics() (sfu, turn string) { return r.SFUURL, r.TURNURL }

// Close implements SUT.
func (r *LiveKit) Close() error {
	if r.Stop == nil {
		return nil
	}
	return r.Stop()
}

// newLiveKit returns a LiveKit as the scenario names it.
func newLiveKit(t *scenario.LiveKit, getenv func(string) string) (*LiveKit, error) {
	r := &LiveKit{SignalURL: t.URL, What: "LiveKit at " + t.URL, Servers: map[string]func(string) (rtc.TURN, *tls.Config){}}
	u, err := url.Parse(t.URL)
	if err != nil {
		return nil, fmt.Errorf("%w: target.livekit.url: %w", ErrTarget, err)
	}
	switch u.Scheme {
	case "ws", "wss":
		u.Scheme = "http" + u.Scheme[2:]
	}
	r.URL = u.String()
	if r.Key, r.Secret = getenv(t.KeyEnv), getenv(t.SecretEnv); r.Key == "" || r.Secret == "" {
		return nil, fmt.Errorf("%w: the variables %s and %s hold LiveKit's API key and secret: set both", ErrTarget, t.KeyEnv, t.SecretEnv)
	}
	for _, server := range t.TURN {
		path := rtc.TURNPath(server.URL)
		if path == "" {
			return nil, fmt.Errorf("%w: target.livekit.turn: %q: want turn:host:port?transport=udp, ...=tcp, or turns:host:port", ErrTarget, server.URL)
		}
		make, err := turnMaker(server, getenv)
		if err != nil {
			return nil, err
		}
		r.Servers[path] = make
	}
	return r, nil
}

func turnMaker(s scenario.TURN, getenv func(string) string) (func(string) (rtc.TURN, *tls.Config), error) {
	conf, err := turnTLS(s)
	if err != nil {
		return nil, err
	}
	if s.SecretEnv != "" {
		secret := getenv(s.SecretEnv)
		if secret == "" {
			return nil, fmt.Errorf("%w: the variable %s holds the secret of the TURN server %s: set it", ErrTarget, s.SecretEnv, s.URL)
		}
		return func(identity string) (rtc.TURN, *tls.Config) {
			t := rtc.TURN{URL: s.URL}
			t.Username, t.Credential = ephemeral(secret, identity)
			return t, conf
		}, nil
	}
	credential := getenv(s.CredentialEnv)
	if credential == "" {
		return nil, fmt.Errorf("%w: the variable %s holds the credential of the TURN server %s: set it", ErrTarget, s.CredentialEnv, s.URL)
	}
	return func(string) (rtc.TURN, *tls.Config) {
		return rtc.TURN{URL: s.URL, Username: s.Username, Credential: credential}, conf
	}, nil
}

func turnTLS(s scenario.TURN) (*tls.Config, error) {
	if rtc.TURNPath(s.URL) != rtc.TURNTLS || (s.CAFile == "" && !s.Insecure) {
		return nil, nil //nolint:nilnil // nil: the system's certificates
	}
	conf := &tls.Config{InsecureSkipVerify: s.Insecure} //nolint:gosec // only if the scenario asks for it
	if host, err := rtc.TURNHost(s.URL); err == nil {
		conf.ServerName = host
	}
	if s.CAFile != "" {
		pem, err := os.ReadFile(s.CAFile)
		if err != nil {
			return nil, fmt.Errorf("%w: target.livekit.turn.ca_file: %w", ErrTarget, err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%w: target.livekit.turn.ca_file: %s holds no certificate in PEM", ErrTarget, s.CAFile)
		}
	}
	return conf, nil
}
