package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/livekit/protocol/auth"
	"github.com/livekit/protocol/livekit"
	"github.com/twitchtv/twirp"

	"github.com/openova-io/bp-relay/services/dev/part"
	"github.com/openova-io/bp-relay/services/dev/process"
)

// LiveKitConfig says how LiveKit is run.
type LiveKitConfig struct {
	// Port is for the API and signalling, UDPPort for media; 0 picks a free
	// one.
	Port, UDPPort int
	// Webhooks are URLs that LiveKit posts its events to, signed with Key.
	Webhooks []string
	// STUN is host:port of the STUN server that LiveKit names to clients. ""
	// means an address on 127.0.0.1 where nothing listens: without one LiveKit
	// would name public servers on the Internet.
	STUN string
	// Overrides replace top-level keys of the config file.
	Overrides map[string]any
}

// LiveKit is a LiveKit server that works, started here or existing.
type LiveKit struct {
	// URL is the base of the Twirp API ("http://127.0.0.1:7880"), and
	// SignalURL the same for clients ("ws://127.0.0.1:7880").
	URL, SignalURL string
	Key, Secret    string
	// UDPPort carries media on 127.0.0.1; 0 for an existing server.
	UDPPort int
	// Process is nil for an existing server.
	*process.Process
}

// StartLiveKit runs livekit-server and waits until its API accepts its key.
func (e *Env) StartLiveKit(ctx context.Context, c LiveKitConfig) (*LiveKit, error) {
	return withFreePorts([]int{c.Port, c.UDPPort}, func() (*LiveKit, error) { return e.startLiveKit(ctx, c) })
}

func (e *Env) startLiveKit(ctx context.Context, c LiveKitConfig) (*LiveKit, error) {
	bin, err := e.tool("livekit-server", part.LiveKit)
	if err != nil {
		return nil, err
	}
	dir, err := e.folder(part.LiveKit)
	if err != nil {
		return nil, err
	}
	type keys struct{ Key, Secret string }
	k, err := keepJSON(filepath.Join(dir, "keys.json"), func() (keys, error) {
		return keys{Key: "relay" + secret()[:8], Secret: secret() + secret()}, nil // shorter than 32 is logged as an error
	})
	if err != nil {
		return nil, err
	}
	api, err := e.port(c.Port, "API", "--livekit-port", false)
	if err != nil {
		return nil, err
	}
	udp, err := e.port(c.UDPPort, "media over UDP", "--livekit-udp-port", true)
	if err != nil {
		return nil, err
	}
	stun := c.STUN
	if stun == "" {
		// The discard port, where nothing answers: with an empty list LiveKit
		// names Google's servers. It must not be the SFU's media address: a
		// browser takes every packet from its STUN server's address for a STUN
		// answer and drops it (libwebrtc, UDPPort::OnReadPacket).
		stun = "127.0.0.1:9"
	}
	config := map[string]any{
		"port":           api.Number,
		"bind_addresses": []string{"127.0.0.1"},
		"keys":           map[string]string{k.Key: k.Secret},
		"rtc": map[string]any{
			// No media over TCP: LiveKit binds that port on every address.
			"tcp_port": 0, "udp_port": udp.Number,
			"node_ip": "127.0.0.1", "use_external_ip": false,
			"enable_loopback_candidate": true,
			"interfaces":                map[string]any{"includes": []string{"lo"}},
			"ips":                       map[string]any{"includes": []string{"127.0.0.1/32"}},
			"stun_servers":              []string{stun},
		},
	}
	if len(c.Webhooks) > 0 {
		config["webhook"] = map[string]any{"api_key": k.Key, "urls": c.Webhooks}
	}
	maps.Copy(config, c.Overrides)
	file := filepath.Join(dir, "livekit.yaml")
	if err := writeJSON(file, config); err != nil { // JSON is YAML
		return nil, err
	}

	l := &LiveKit{
		URL: fmt.Sprintf("http://127.0.0.1:%d", api.Number), SignalURL: fmt.Sprintf("ws://127.0.0.1:%d", api.Number),
		Key: k.Key, Secret: k.Secret, UDPPort: udp.Number,
	}
	l.Process, err = e.launch(ctx, part.LiveKit, process.Spec{
		Args: []string{bin, "--config", file}, Dir: dir,
		// Its drain waits for participants to leave, and then 5 s for its own
		// connections. It stores nothing, so a kill loses nothing.
		Grace: time.Second,
		Ready: l.check,
	}, api, udp)
	if err != nil {
		return nil, err
	}
	return l, nil
}

// check requests the health page, which shows that the node is alive, and then
// calls the API, which shows that the key is right.
func (l *LiveKit) check(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.URL, nil)
	if err != nil {
		return err
	}
	client := newHTTPClient()
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 256))
	_ = resp.Body.Close()
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET / answers %s: %s", resp.Status, body)
	}
	token, err := auth.NewAccessToken(l.Key, l.Secret).
		SetVideoGrant(&auth.VideoGrant{RoomList: true}).SetValidFor(time.Minute).ToJWT()
	if err != nil {
		return fmt.Errorf("sign a token: %w", err)
	}
	ctx, err = twirp.WithHTTPRequestHeaders(ctx, http.Header{"Authorization": {"Bearer " + token}})
	if err != nil {
		return err
	}
	_, err = livekit.NewRoomServiceProtobufClient(l.URL, client).ListRooms(ctx, &livekit.ListRoomsRequest{})
	return err
}

// CheckLiveKit checks that an existing server accepts this key, within 10 s. The
// URL's scheme is http, https, ws or wss. The error is an *[AddressError] that
// says what to do.
func CheckLiveKit(ctx context.Context, url, key, secret string) (*LiveKit, error) {
	l := &LiveKit{URL: swapScheme(url, "ws", "http"), SignalURL: swapScheme(url, "http", "ws"), Key: key, Secret: secret}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := l.check(ctx)
	if err == nil {
		return l, nil
	}
	var problem string
	var te twirp.Error
	switch {
	case errors.As(err, &te) && (te.Code() == twirp.Unauthenticated || te.Code() == twirp.PermissionDenied):
		problem = fmt.Sprintf("it refuses the API key %q: check the key and its secret (%s)", key, te.Msg())
	case errors.As(err, &te) && te.Code() != twirp.Internal:
		problem = fmt.Sprintf("its API answers %s: check that this is a LiveKit server", te.Code())
	default:
		problem = unreachable(err)
	}
	return nil, &AddressError{Part: "LiveKit", Address: url, Problem: problem, Err: err}
}

// swapScheme replaces the prefix from with to; with "http" and "ws", "https"
// becomes "wss" as well.
func swapScheme(url, from, to string) string {
	if rest, ok := strings.CutPrefix(url, from); ok {
		return to + rest
	}
	return url
}
