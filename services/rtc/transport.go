package rtc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/ice/v4"
	"github.com/pion/rtcp"
	"github.com/pion/sctp"
	"github.com/pion/srtp/v3"
	"github.com/pion/stun/v3"

	"github.com/openova-io/bp-relay/services/rtc/socket"
)

// transport is one ICE, DTLS and SRTP association with LiveKit.
type transport struct {
	cfg   *Config
	net   *socket.Net
	agent *ice.Agent
	local local

	// onRTCP receives LiveKit's RTCP. onRTP receives media that came past the sink, in
	// TURN's Data indications (RFC 8656 section 11.4), still encrypted.
	onRTCP func([]rtcp.Packet)
	onRTP  func([]socket.Packet)

	conn *ice.Conn
	mux  *endpoint
	dtls *dtls.Conn
	sctp *sctp.Association
	in   *srtp.Context // for received RTCP
	// keys are for the contexts of whoever sends or reads media.
	keys    srtp.SessionKeys
	profile srtp.ProtectionProfile

	mu   sync.Mutex    // guards in, out and sctp
	out  *srtp.Context // for sent RTCP
	wg   sync.WaitGroup
	once sync.Once

	failed   chan struct{} // closed when ICE failed
	failOnce sync.Once
	// noCandidates ends when ICE has gathered and found no local candidate.
	noCandidates context.Context //nolint:containedctx // connect joins it with its caller's
	noneGathered context.CancelFunc
}

// newTransport starts gathering; tell gets each local candidate as in SDP.
func newTransport(cfg *Config, sink socket.Sink, tell func(candidate string)) (*transport, error) {
	t := &transport{cfg: cfg, failed: make(chan struct{})}
	t.noCandidates, t.noneGathered = context.WithCancel(context.Background())
	network := socket.NetConfig{Host: cfg.Engine.host, Local: cfg.Local, Sink: sink, TLS: cfg.TLS}
	candidates := ice.CandidateTypeHost
	var servers []*stun.URI
	if cfg.Path != Direct {
		u, err := cfg.TURN.uri()
		if err != nil {
			return nil, err
		}
		candidates, servers = ice.CandidateTypeRelay, []*stun.URI{u}
		if cfg.Path != TURNUDP {
			network.TURNServer = net.JoinHostPort(u.Host, strconv.Itoa(u.Port))
		}
	}
	t.net = cfg.Engine.Reactor.Net(network)
	kind := ice.NetworkTypeUDP4
	if cfg.Local.Is6() {
		kind = ice.NetworkTypeUDP6
	}
	var err error
	t.agent, err = ice.NewAgentWithOptions(
		ice.WithNet(t.net), ice.WithNetworkTypes([]ice.NetworkType{kind}), ice.WithCandidateTypes([]ice.CandidateType{candidates}),
		ice.WithUrls(servers), ice.WithMulticastDNSMode(ice.MulticastDNSModeDisabled), ice.WithLoggerFactory(cfg.Engine.log),
		ice.WithDisableActiveTCP(), ice.WithIncludeLoopback(), ice.WithIPFilter(func(ip net.IP) bool { return ip.Equal(cfg.Local.AsSlice()) }),
		ice.WithHostAcceptanceMinWait(0), ice.WithRelayAcceptanceMinWait(0), ice.WithPrflxAcceptanceMinWait(0),
	)
	if err != nil {
		return nil, fmt.Errorf("ICE: %w", err)
	}
	if err := t.gather(tell); err != nil {
		return nil, fmt.Errorf("ICE: %w", errors.Join(err, t.agent.Close()))
	}
	return t, nil
}

func (t *transport) gather(tell func(candidate string)) error {
	t.local.fingerprint = t.cfg.Engine.certificate.fingerprint
	var err error
	if t.local.ufrag, t.local.pwd, err = t.agent.GetLocalUserCredentials(); err != nil {
		return err
	}
	var found atomic.Bool
	if err := t.agent.OnCandidate(func(c ice.Candidate) {
		if c != nil {
			found.Store(true)
			tell("candidate:" + c.Marshal())
		} else if !found.Load() {
			t.noneGathered()
		}
	}); err != nil {
		return err
	}
	if err := t.agent.OnConnectionStateChange(func(s ice.ConnectionState) {
		if s == ice.ConnectionStateFailed {
			t.failOnce.Do(func() { close(t.failed) })
		}
	}); err != nil {
		return err
	}
	return t.agent.GatherCandidates()
}

var errNoCandidates = errors.New("ICE has no candidate to offer")

// candidate adds one of LiveKit's.
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

// connect does ICE and DTLS and derives the keys. Offered is true if this side made
// the offer.
func (t *transport) connect(ctx context.Context, remote *description, offered bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(t.noCandidates, func() { cancel(errNoCandidates) })()
	for _, c := range remote.candidates {
		if err := t.candidate(c); err != nil {
			return err
		}
	}
	var err error
	if offered || remote.lite { // RFC 8445 section 6.1.1: controlling
		t.conn, err = t.agent.Dial(ctx, remote.ufrag, remote.pwd)
	} else {
		t.conn, err = t.agent.Accept(ctx, remote.ufrag, remote.pwd)
	}
	if err != nil {
		return fmt.Errorf("ICE: %w", t.explain(ctx, err))
	}
	t.mux = newEndpoint(t.conn)
	t.wg.Go(t.read)
	client := !offered || remote.setup == "passive" // RFC 8842 section 5
	if err := t.handshake(ctx, remote.fingerprint, client); err != nil {
		return fmt.Errorf("DTLS: %w", t.explain(ctx, err))
	}
	return t.deriveKeys(client)
}

// explain adds to err what an operator can check if ctx has ended.
func (t *transport) explain(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	if t.cfg.Path == Direct {
		return fmt.Errorf("no answer from LiveKit's media port in time: check that it is open for UDP from %s: %w", t.cfg.Local, err)
	}
	if errors.Is(err, ice.ErrCanceledByCaller) {
		err = context.Cause(ctx) // it says more
	}
	if nerr := t.net.Err(); nerr != nil {
		if errors.Is(err, errNoCandidates) {
			return nerr // it is why
		}
		return errors.Join(nerr, err)
	}
	if c, lerr := t.agent.GetLocalCandidates(); lerr == nil && len(c) == 0 {
		if !t.net.Heard() {
			return fmt.Errorf("the TURN server %s does not answer: check that it listens there, and that it is reached from %s: %w", t.cfg.TURN.URL, t.cfg.Local, err)
		}
		return fmt.Errorf("the TURN server %s answers but gave no allocation: check its credentials: %w", t.cfg.TURN.URL, err)
	}
	return fmt.Errorf("LiveKit was not reached through the TURN server %s: check that it may relay to LiveKit's address: %w", t.cfg.TURN.URL, err)
}

// read demultiplexes what arrives through ICE (RFC 7983 section 7).
func (t *transport) read() {
	defer func() { _ = t.mux.Close() }()
	buf := make([]byte, 2048)
	for {
		n, err := t.conn.Read(buf)
		if err != nil {
			return
		}
		b := buf[:n]
		switch {
		case n > 0 && b[0] >= 20 && b[0] <= 63:
			t.mux.put(b)
		case socket.IsRTCP(b):
			t.receiveRTCP(b)
		case socket.IsRTP(b) && t.onRTP != nil:
			t.onRTP([]socket.Packet{{Bytes: b, At: time.Now().UnixNano()}})
		}
	}
}

// receiveRTCP drops what arrives before the keys, or is not authentic.
func (t *transport) receiveRTCP(b []byte) {
	t.mu.Lock()
	in := t.in
	t.mu.Unlock()
	if in == nil || t.onRTCP == nil {
		return
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
	t.mu.Lock()
	defer t.mu.Unlock()
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

// close closes all of the transport and waits for its goroutines.
func (t *transport) close() error {
	var err error
	t.once.Do(func() {
		t.mu.Lock()
		a := t.sctp // a subscriber's may just have been opened
		t.mu.Unlock()
		if a != nil {
			_ = a.Close() // its DTLS connection is closed next
		}
		if t.dtls != nil {
			_ = t.dtls.Close() // an error means that LiveKit was faster
		}
		if t.mux != nil {
			_ = t.mux.Close()
		}
		t.noneGathered()
		err = t.agent.Close()
		t.wg.Wait()
	})
	return err
}
