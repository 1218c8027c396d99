package rtc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/sctp"
	"github.com/pion/srtp/v3"
)

const (
	// flightInterval is DTLS's first retransmission timeout (RFC 6347 section 4.2.4.1:
	// 1 s by default; a join should not wait as long for one lost packet).
	flightInterval = 200 * time.Millisecond
	// maxMessage is what this side sends in one SCTP message, in bytes.
	maxMessage = 1 << 18
)

// handshake does DTLS. Both sides verify by the fingerprints in their session
// descriptions (RFC 5763 section 5).
func (t *transport) handshake(ctx context.Context, want string, client bool) error {
	verify := func(certs [][]byte, _ [][]*x509.Certificate) error {
		if len(certs) == 0 || !strings.EqualFold(fingerprint(certs[0]), want) {
			return errors.New("LiveKit's certificate is not the one that its session description names")
		}
		return nil
	}
	cfg := &dtls.Config{ //nolint:staticcheck // one config serves both roles; the options are two sets
		Certificates:           []tls.Certificate{t.cfg.Engine.certificate.tls},
		SRTPProtectionProfiles: []dtls.SRTPProtectionProfile{dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AES128_CM_HMAC_SHA1_80},
		ExtendedMasterSecret:   dtls.RequireExtendedMasterSecret,
		InsecureSkipVerify:     true, // by fingerprint instead
		VerifyPeerCertificate:  verify,
		ClientAuth:             dtls.RequireAnyClientCert,
		LoggerFactory:          t.cfg.Engine.log,
		FlightInterval:         flightInterval,
	}
	var err error
	if client {
		t.dtls, err = dtls.Client(t.mux, t.conn.RemoteAddr(), cfg) //nolint:staticcheck // as above
	} else {
		t.dtls, err = dtls.Server(t.mux, t.conn.RemoteAddr(), cfg) //nolint:staticcheck // as above
	}
	if err != nil {
		return err
	}
	return handshake(ctx, t.dtls)
}

// handshake does a handshake on c. If it returns nil, c.Read ends after c.Close: when ctx
// is cancelled just as the handshake finishes, pion/dtls 3.1.4 returns nil although its
// reader has ended and left Read's channel open (conn.go, translateHandshakeCtxError).
func handshake(ctx context.Context, c *dtls.Conn) error {
	if err := c.HandshakeContext(ctx); err != nil {
		return err
	}
	return ctx.Err()
}

// deriveKeys takes the SRTP keys out of DTLS (RFC 5764 section 4.2).
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
	in, err := t.decrypter()
	if err != nil {
		return err
	}
	out, err := srtp.CreateContext(t.keys.LocalMasterKey, t.keys.LocalMasterSalt, t.profile)
	if err != nil {
		return fmt.Errorf("SRTP: %w", err)
	}
	t.mu.Lock()
	t.in, t.out = in, out
	t.mu.Unlock()
	return nil
}

// decrypter returns a new context for what LiveKit sends.
func (t *transport) decrypter() (*srtp.Context, error) {
	c, err := srtp.CreateContext(t.keys.RemoteMasterKey, t.keys.RemoteMasterSalt, t.profile)
	if err != nil {
		return nil, fmt.Errorf("SRTP: %w", err)
	}
	return c, nil
}

// openSCTP starts data channels' association over DTLS (RFC 8261), as the client.
// If ctx ends meanwhile, it closes DTLS.
func (t *transport) openSCTP(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = t.dtls.Close() }) // SCTP returns the error
	defer stop()
	a, err := sctp.Client(sctp.Config{NetConn: t.dtls, LoggerFactory: t.cfg.Engine.log, MaxMessageSize: maxMessage}) //nolint:staticcheck // the options say the same
	if err != nil {
		return fmt.Errorf("SCTP: %w", errors.Join(ctx.Err(), err))
	}
	t.mu.Lock()
	t.sctp = a
	t.mu.Unlock()
	return nil
}
