package peer

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/ice/v4"
	"github.com/pion/logging"
	"github.com/pion/rtcp"
	"github.com/pion/sctp"
	"github.com/pion/srtp/v3"
	"github.com/pion/stun/v3"

	"github.com/openova-io/bp-relay/loadtest/wire"
)

// transport is one ICE, DTLS and SRTP association with LiveKit.
type transport struct {
	cfg   *Config
	net   *wire.Net
	agent *ice.Agent
	local local

	// onRTCP gets what LiveKit reports, and onRTP media that came another way
	// than through the sink (TURN's Data indications), encrypted.
	onRTCP func([]rtcp.Packet)
	onRTP  func([]wire.Packet)

	conn *ice.Conn
	mux  *endpoint
	dtls *dtls.Conn
	sctp *sctp.Association
	in   *srtp.Context // RTCP in
	// keys are for contexts of who sends or reads media.
	keys    srtp.SessionKeys
	profile srtp.ProtectionProfile

	outMu sync.Mutex    // guards in and out while keys come, and sctp
	out   *srtp.Context // RTCP out
	wg    sync.WaitGroup
	once  sync.Once

	failed chan struct{} // closed when ICE or DTLS ended by itself
	fail   sync.Once
	// barren ends when ICE has looked for candidates and found none.
	barren context.Context //nolint:containedctx // to be joined with that of who waits
	none   context.CancelFunc
}

// quiet makes pion say nothing: what matters comes as an error.
func quiet() logging.LoggerFactory {
	return &logging.DefaultLoggerFactory{Writer: io.Discard, DefaultLogLevel: logging.LogLevelDisabled, ScopeLevels: map[string]logging.LogLevel{}}
}

func newTransport(cfg *Config, sink wire.Sink, tell func(candidate string)) (*transport, error) {
	t := &transport{cfg: cfg, failed: make(chan struct{})}
	t.barren, t.none = context.WithCancel(context.Background())
	way := wire.NetConfig{Host: cfg.Engine.Host, Local: cfg.Local, Sink: sink, TLS: cfg.TLS, Impair: cfg.Impair}
	if cfg.Path == TURNTCP || cfg.Path == TURNTLS {
		u, err := cfg.TURN.uri()
		if err != nil {
			return nil, err
		}
		way.TURNStream = net.JoinHostPort(u.Host, strconv.Itoa(u.Port))
	}
	t.net = cfg.Engine.Reactor.Net(way)
	kind := ice.NetworkTypeUDP4
	if cfg.Local.Is6() {
		kind = ice.NetworkTypeUDP6
	}
	candidates := ice.CandidateTypeHost
	var servers []*stun.URI
	if cfg.Path != Direct {
		candidates = ice.CandidateTypeRelay
		u, err := cfg.TURN.uri()
		if err != nil {
			return nil, err
		}
		servers = []*stun.URI{u}
	}
	var err error
	var some atomic.Bool
	t.agent, err = ice.NewAgentWithOptions(
		ice.WithNet(t.net), ice.WithNetworkTypes([]ice.NetworkType{kind}), ice.WithCandidateTypes([]ice.CandidateType{candidates}),
		ice.WithUrls(servers), ice.WithMulticastDNSMode(ice.MulticastDNSModeDisabled), ice.WithLoggerFactory(cfg.Engine.log),
		ice.WithDisableActiveTCP(), ice.WithIncludeLoopback(), ice.WithIPFilter(func(ip net.IP) bool { return ip.Equal(cfg.Local.AsSlice()) }),
		ice.WithHostAcceptanceMinWait(0), ice.WithRelayAcceptanceMinWait(0), ice.WithPrflxAcceptanceMinWait(0),
	)
	if err != nil {
		return nil, fmt.Errorf("ICE: %w", err)
	}
	t.local.fingerprint = cfg.Engine.Certificate.fingerprint
	t.local.ufrag, t.local.pwd, err = t.agent.GetLocalUserCredentials()
	err = errors.Join(err, t.agent.OnCandidate(func(c ice.Candidate) {
		if c != nil {
			some.Store(true)
			tell("candidate:" + c.Marshal())
		} else if !some.Load() {
			t.none()
		}
	}), t.agent.OnConnectionStateChange(func(s ice.ConnectionState) {
		if s == ice.ConnectionStateFailed {
			t.broken()
		}
	}))
	if err == nil {
		err = t.agent.GatherCandidates()
	}
	if err != nil {
		return nil, fmt.Errorf("ICE: %w", errors.Join(err, t.agent.Close()))
	}
	return t, nil
}

var errBarren = errors.New("ICE has no candidate to offer")

func (t *transport) broken() { t.fail.Do(func() { close(t.failed) }) }

// candidate takes one of LiveKit's.
func (t *transport) candidate(text string) error {
	text = strings.TrimPrefix(text, "candidate:")
	if text == "" {
		return nil
	}
	c, err := ice.UnmarshalCandidate(text)
	if err != nil {
		return fmt.Errorf("candidate from LiveKit: %w", err)
	}
	return t.agent.AddRemoteCandidate(c)
}

// connect does ICE and DTLS and makes the keys. Offered says that we made the
// offer.
func (t *transport) connect(ctx context.Context, remote *session, offered bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(t.barren, func() { cancel(errBarren) })()
	for _, c := range remote.candidates {
		if err := t.candidate(c); err != nil {
			return err
		}
	}
	var err error
	if offered || remote.lite {
		t.conn, err = t.agent.Dial(ctx, remote.ufrag, remote.pwd)
	} else {
		t.conn, err = t.agent.Accept(ctx, remote.ufrag, remote.pwd)
	}
	if err != nil {
		return fmt.Errorf("ICE: %w", t.why(ctx, err))
	}
	t.mux = newEndpoint(t.conn)
	t.wg.Go(t.read)
	if err := t.handshake(ctx, remote, offered); err != nil {
		return fmt.Errorf("DTLS: %w", t.why(ctx, err))
	}
	return t.deriveKeys(!offered || remote.setup == "passive")
}

// why adds what a person needs when it took too long.
func (t *transport) why(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	if t.cfg.Path == Direct {
		return fmt.Errorf("no answer from LiveKit's media port in time: check that it is open for UDP from %s: %w", t.cfg.Local, err)
	}
	if errors.Is(err, ice.ErrCanceledByCaller) && ctx.Err() != nil {
		err = context.Cause(ctx) // ours, and says more
	}
	if nerr := t.net.Err(); nerr != nil {
		if errors.Is(err, errBarren) {
			return nerr // which is why
		}
		return errors.Join(nerr, err)
	}
	if c, lerr := t.agent.GetLocalCandidates(); lerr == nil && len(c) == 0 {
		if !t.net.Heard() {
			return fmt.Errorf("the TURN server %s does not answer: check that it listens there, and that it is reached from %s: %w", t.cfg.TURN.URL, t.cfg.Local, err)
		}
		return fmt.Errorf("the TURN server %s answers, and gave no allocation: check its credentials: %w", t.cfg.TURN.URL, err)
	}
	return fmt.Errorf("LiveKit was not reached through the TURN server %s: check that it may relay to LiveKit's address: %w", t.cfg.TURN.URL, err)
}

func (t *transport) handshake(ctx context.Context, remote *session, offered bool) error {
	verify := func(certs [][]byte, _ [][]*x509.Certificate) error {
		if len(certs) == 0 || !strings.EqualFold(fingerprint(certs[0]), remote.fingerprint) {
			return errors.New("LiveKit's certificate is not the one that its session description names")
		}
		return nil
	}
	cfg := &dtls.Config{ //nolint:staticcheck // one config serves both roles; the options are two sets
		Certificates:           t.cfg.Engine.dtls(),
		SRTPProtectionProfiles: []dtls.SRTPProtectionProfile{dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AES128_CM_HMAC_SHA1_80},
		ExtendedMasterSecret:   dtls.RequireExtendedMasterSecret,
		InsecureSkipVerify:     true, // by fingerprint instead
		VerifyPeerCertificate:  verify,
		ClientAuth:             dtls.RequireAnyClientCert,
		LoggerFactory:          t.cfg.Engine.log,
		FlightInterval:         200 * time.Millisecond,
	}
	var err error
	if !offered || remote.setup == "passive" {
		t.dtls, err = dtls.Client(t.mux, t.conn.RemoteAddr(), cfg) //nolint:staticcheck // as above
	} else {
		t.dtls, err = dtls.Server(t.mux, t.conn.RemoteAddr(), cfg) //nolint:staticcheck // as above
	}
	if err != nil {
		return err
	}
	return t.dtls.HandshakeContext(ctx)
}

func (t *transport) deriveKeys(client bool) error {
	p, ok := t.dtls.SelectedSRTPProtectionProfile()
	if !ok {
		return errors.New("DTLS: no SRTP profile was agreed on")
	}
	state, ok := t.dtls.ConnectionState()
	if !ok {
		return errors.New("DTLS: no connection state")
	}
	c := &srtp.Config{Profile: srtp.ProtectionProfile(p)}
	if err := c.ExtractSessionKeysFromDTLS(&state, client); err != nil {
		return fmt.Errorf("SRTP keys: %w", err)
	}
	t.keys, t.profile = c.Keys, c.Profile
	in, err := t.context(false)
	if err != nil {
		return err
	}
	out, err := t.context(true)
	if err != nil {
		return err
	}
	t.outMu.Lock()
	t.in, t.out = in, out
	t.outMu.Unlock()
	return nil
}

// context is a new SRTP context for sending or receiving. Each belongs to one
// goroutine.
func (t *transport) context(send bool) (*srtp.Context, error) {
	key, salt := t.keys.RemoteMasterKey, t.keys.RemoteMasterSalt
	if send {
		key, salt = t.keys.LocalMasterKey, t.keys.LocalMasterSalt
	}
	c, err := srtp.CreateContext(key, salt, t.profile)
	if err != nil {
		return nil, fmt.Errorf("SRTP: %w", err)
	}
	return c, nil
}

// read sorts what comes through ICE: DTLS to its endpoint, RTCP to who wants
// to know.
func (t *transport) read() {
	defer t.mux.end()
	buf := make([]byte, 2048)
	for {
		n, err := t.conn.Read(buf)
		if err != nil {
			return
		}
		b := buf[:n]
		switch {
		case n > 0 && b[0] >= 20 && b[0] <= 63: // RFC 7983 section 7
			t.mux.put(b)
		case wire.IsRTCP(b):
			t.report(b)
		case wire.IsRTP(b) && t.onRTP != nil:
			t.onRTP([]wire.Packet{{Bytes: b, At: time.Now().UnixNano()}})
		}
	}
}

func (t *transport) report(b []byte) {
	t.outMu.Lock()
	in := t.in
	t.outMu.Unlock()
	if in == nil || t.onRTCP == nil {
		return // before the keys are there
	}
	plain, err := in.DecryptRTCP(nil, b, nil)
	if err != nil {
		return
	}
	if pkts, err := rtcp.Unmarshal(plain); err == nil {
		t.onRTCP(pkts)
	}
}

// writeRTCP sends a compound packet.
func (t *transport) writeRTCP(pkts []rtcp.Packet) error {
	raw, err := rtcp.Marshal(pkts)
	if err != nil {
		return fmt.Errorf("RTCP: %w", err)
	}
	t.outMu.Lock()
	defer t.outMu.Unlock()
	if t.out == nil {
		return errors.New("RTCP: not connected")
	}
	enc, err := t.out.EncryptRTCP(nil, raw, nil)
	if err != nil {
		return fmt.Errorf("RTCP: %w", err)
	}
	if _, err = t.conn.Write(enc); err != nil {
		return fmt.Errorf("RTCP: %w", err)
	}
	return nil
}

// dest is the way of media that we send.
func (t *transport) dest() (*wire.Dest, error) {
	pair, err := t.agent.GetSelectedCandidatePair()
	if err != nil || pair == nil {
		return nil, errors.Join(errors.New("ICE: no candidate pair is selected"), err)
	}
	remote := &net.UDPAddr{IP: net.ParseIP(pair.Remote.Address()), Port: pair.Remote.Port()}
	if pair.Local.Type() != ice.CandidateTypeRelay {
		return t.net.Direct(&net.UDPAddr{IP: net.ParseIP(pair.Local.Address()), Port: pair.Local.Port()}, remote)
	}
	return t.net.Relayed(remote)
}

// openSCTP begins data channels' transport, as the DTLS client's side. When ctx
// ends meanwhile, DTLS ends, too.
func (t *transport) openSCTP(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = t.dtls.Close() }) // what went wrong is SCTP's to say
	defer stop()
	a, err := sctp.Client(sctp.Config{NetConn: t.dtls, LoggerFactory: t.cfg.Engine.log, MaxMessageSize: 1 << 18}) //nolint:staticcheck // the options say the same
	if err != nil {
		return fmt.Errorf("SCTP: %w", errors.Join(ctx.Err(), err))
	}
	t.outMu.Lock()
	t.sctp = a
	t.outMu.Unlock()
	return nil
}

// close ends everything and waits for it.
func (t *transport) close() error {
	var err error
	t.once.Do(func() {
		t.outMu.Lock()
		a := t.sctp // a subscriber's may just have come
		t.outMu.Unlock()
		if a != nil {
			_ = a.Close() // its DTLS is closed next, whatever it says
		}
		if t.dtls != nil {
			_ = t.dtls.Close() // an error: the other side was faster
		}
		if t.mux != nil {
			t.mux.end()
		}
		t.none()
		err = t.agent.Close()
		t.wg.Wait()
	})
	return err
}
